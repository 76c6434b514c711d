//! What surrounds every page.

pub mod banner;
pub mod bare;
pub mod frame;
pub mod page_header;
pub mod sidebar;
pub mod theme;
