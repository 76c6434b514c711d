//! What this process was started with.

use super::{Service, require};
use crate::domain::error::Problem;
use crate::domain::setting::Setting;
use crate::domain::user::{Actor, Want};

impl Service {
    /// The settings of this process, without what is secret in them.
    pub fn settings(&self, actor: &Actor) -> Result<Vec<Setting>, Problem> {
        require(actor, Want::ReadSettings)?;
        Ok(self.settings.to_vec())
    }
}
