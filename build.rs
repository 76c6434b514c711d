//! The server embeds the built site. Cargo sees when one of its files changes, but not when one comes or goes: script/build
//! says which site it is, and this asks for a new server when that changes.

fn main() {
    println!("cargo:rerun-if-env-changed=WINDLASS_SITE");
}
