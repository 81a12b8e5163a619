//! What an instance of an image runs on a host.

use super::DriverKind;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The name that stands for every image without an entry of its own.
pub(crate) const DEFAULT: &str = "default";

/// What an instance of an image runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The program and its arguments: for the drivers `process` and `netns`. A program without a
    /// `/` is looked for in the agent's `PATH`.
    #[serde(default)]
    pub program: Vec<String>,
    /// The image of the root disk: for the driver `qemu`.
    pub disk: Option<PathBuf>,
}

impl Image {
    /// Whether `name` can be that of an image.
    pub(crate) fn is_name(name: &str) -> bool {
        name == DEFAULT || name.strip_prefix("ami-").is_some_and(|rest| !rest.is_empty())
    }

    /// What is missing for this driver, if anything is: what would be right.
    pub(crate) fn lacks(&self, driver: DriverKind) -> Option<&'static str> {
        let has_program = self.program.first().is_some_and(|program| !program.is_empty());
        match driver {
            DriverKind::Process | DriverKind::Netns if !has_program => {
                Some(r#"the program and its arguments: `program = ["/usr/bin/server"]`"#)
            }
            DriverKind::Qemu if self.disk.is_none() => {
                Some(r#"the image of its disk: `disk = "images/debian.qcow2"`"#)
            }
            _ => None,
        }
    }

    /// The same with its relative paths taken from `folder`.
    pub(crate) fn within(mut self, folder: &Path) -> Image {
        if let Some(program) = self.program.first_mut().filter(|program| program.contains('/')) {
            *program = folder.join(&*program).to_string_lossy().into_owned();
        }
        self.disk = self.disk.map(|disk| folder.join(disk));
        self
    }
}
