//! Tasks of the workspace: what is generated, and what has to hold before a change lands.

pub mod bench;
pub mod e2e;
pub mod events;
pub mod fuzz;
pub mod lambda;
pub mod proof;
pub mod python;
pub mod registry;
pub mod template;
pub mod test;

use std::path::{Path, PathBuf};

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
