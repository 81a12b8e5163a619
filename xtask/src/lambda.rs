//! `cargo xtask build-lambda`: the functions' binaries, where `template.yaml` looks for them.

use crate::python::{Tools, run};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::PathBuf;

/// All functions: the folders of `functions/`, each a package with a binary of that name.
pub const FUNCTIONS: [&str; 8] =
    ["api", "capacity", "handoff", "instances", "network", "security", "storage", "sweeper"];

/// The most bytes of a function's zip: a cold start reads all of it.
const ZIP_BYTES_MAX: u64 = 3 << 20;
/// The same of the api: it has the routes of everything, the description of each, and every step, for
/// what would become of a message.
const API_ZIP_BYTES_MAX: u64 = 5 << 20;

/// How to build.
#[derive(Debug, Default, Clone, Args)]
pub struct Options {
    /// For x86_64 instead of arm64, as the template's parameter `Architecture` has to say then
    #[arg(long)]
    pub x86_64: bool,
    /// Only these functions, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
}

/// Builds, and prints how large each function is.
///
/// # Errors
/// It cannot be built, or a function is larger than a cold start should have to read.
pub fn build(options: &Options) -> Result<()> {
    let functions = chosen(&options.only)?;
    let tools = Tools::of("sam")?;
    // Cargo builds packages together with the features of all, and those of the api are its alone.
    let (api, steps): (Vec<&str>, Vec<&str>) =
        functions.iter().partition(|function| **function == "api");
    for together in [steps, api].into_iter().filter(|group| !group.is_empty()) {
        let mut cargo = tools.command("cargo-lambda");
        cargo.args(["lambda", "build", "--locked", "--bins", "--features", "lambda"]);
        cargo.args(["--profile", "lambda", if options.x86_64 { "--x86-64" } else { "--arm64" }]);
        for function in together {
            cargo.args(["--package", &format!("eventplane-{function}")]);
        }
        run(cargo.current_dir(crate::workspace()))?;
    }
    for function in functions {
        let binary = binary(function);
        let (size, zip) = (std::fs::metadata(&binary)?.len(), zip_bytes(&tools, &binary)?);
        say(&format!("{function}: {} KB, {} KB zipped", size / 1000, zip / 1000));
        let most = if function == "api" { API_ZIP_BYTES_MAX } else { ZIP_BYTES_MAX };
        ensure!(zip <= most, "{function}'s zip has more than {most} bytes");
    }
    Ok(())
}

fn chosen(only: &[String]) -> Result<Vec<&'static str>> {
    let mut chosen: Vec<&'static str> = FUNCTIONS.to_vec();
    for name in only {
        let all = FUNCTIONS.join(", ");
        ensure!(FUNCTIONS.contains(&name.as_str()), "there is no function `{name}`: {all}");
    }
    if !only.is_empty() {
        chosen.retain(|function| only.iter().any(|name| name == function));
    }
    Ok(chosen)
}

/// Where a function's binary is.
#[must_use]
pub fn binary(function: &str) -> PathBuf {
    crate::workspace().join("target/lambda").join(function).join("bootstrap")
}

/// The size of the zip that is deployed, in bytes.
fn zip_bytes(tools: &Tools, binary: &PathBuf) -> Result<u64> {
    const ZIP: &str = "import io, sys, zipfile; out = io.BytesIO(); \
        zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED).write(sys.argv[1], 'bootstrap'); \
        print(len(out.getvalue()))";
    let output = tools.command("python").args(["-c", ZIP]).arg(binary).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.trim().parse().with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[allow(clippy::print_stdout, reason = "what it is for")]
fn say(line: &str) {
    println!("{line}");
}
