//! Tools that are Python packages: each set in a virtual environment of its own, pinned to the last
//! package by a file under `xtask/python/`, made when first needed and kept in `target/python/`.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// A set of Python tools, installed.
#[derive(Debug, Clone)]
pub struct Tools {
    bin: PathBuf,
}

impl Tools {
    /// The tools of `xtask/python/<set>.txt`; installs them when they are not, or are others.
    ///
    /// # Errors
    /// When there is no Python 3 with `venv`, or the package registry does not answer.
    pub fn of(set: &str) -> Result<Tools> {
        let workspace = crate::workspace();
        let pins = workspace.join("xtask/python").join(format!("{set}.txt"));
        let wanted = std::fs::read_to_string(&pins)
            .with_context(|| format!("{} is missing", pins.display()))?;
        let dir = workspace.join("target/python").join(set);
        let tools = Tools { bin: dir.join("bin") };
        // Written last: what stands there was installed to the end.
        let installed = dir.join("installed.txt");
        if std::fs::read_to_string(&installed).is_ok_and(|pins| pins == wanted) {
            return Ok(tools);
        }
        eprintln!("installing {} into {}", pins.display(), dir.display());
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&dir))
            .context("Python 3 with its `venv` module is needed")?;
        run(tools
            .command("pip")
            .args(["install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .arg("--requirement")
            .arg(&pins))?;
        std::fs::write(installed, wanted)?;
        Ok(tools)
    }

    /// One of the tools. Programs that it starts find the others first.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = [self.bin.clone()].into_iter().chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(paths) {
            command.env("PATH", path);
        }
        command
    }
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started, or fails: the error has its line.
pub fn run(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| format!("{line} could not be started"))?;
    ensure!(status.success(), "{line} failed: {status}");
    Ok(())
}
