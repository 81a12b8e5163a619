//! `cargo xtask template`: is `template.yaml` one that AWS takes, and that loses nothing?
//!
//! SAM is expanded first: on the raw template the linters overlook what the transform writes. Some
//! of it depends on parameters, so there are [`VARIANTS`].

use crate::python::{Tools, run};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use std::process::Command;

/// The expansions, by the name of their file: with the parameters that they differ by.
pub const VARIANTS: [(&str, &[&str]); 3] = [
    ("expanded", &[]),
    (
        "prod",
        &[
            "CanaryDeployment=true",
            "Authorization=JWT",
            "JwtIssuer=https://issuer.example",
            "JwtAudience=eventplane",
            "TenantClaim=tenant",
        ],
    ),
    ("emulator", &["Endpoint=emulator", "Architecture=x86_64"]),
];

/// The stacks beside the plane's: plain CloudFormation.
const BESIDE: [&str; 2] = ["infra/watch.yaml", "events/registry.json"];

/// What to run.
#[derive(Debug, Default, Args)]
pub struct Options {
    /// More linters: checkov and cfn-lint-serverless
    #[arg(long)]
    pub all: bool,
    /// SAM's own validation (a larger installation)
    #[arg(long)]
    pub sam: bool,
}

/// Expands the template, lints it, and runs the tests of its expansion.
///
/// # Errors
/// A tool cannot be installed, or finds something.
pub fn check(options: &Options) -> Result<()> {
    let lint = Tools::of("lint")?;
    let expanded = expand(&lint)?;
    let in_workspace = |mut command: Command| {
        command.current_dir(crate::workspace());
        command
    };
    let say = |what: &str| eprintln!("{what}");
    say("cfn-lint");
    let templates = ["template.yaml"].iter().chain(&BESIDE);
    run(in_workspace(lint.command("cfn-lint")).args(templates).args(&expanded))?;
    say("cloudformation-validate, with infra/rules.guard");
    run(in_workspace(lint.command("python"))
        .args(["xtask/python/validate.py", "infra/rules.guard"])
        .args(&expanded)
        .args(BESIDE))?;
    if options.all {
        let more = Tools::of("lint-more")?;
        for template in &expanded {
            say(&format!("checkov, cfn-lint-serverless: {}", template.display()));
            run(in_workspace(more.command("checkov"))
                .args(["--skip-download", "--config-file", "infra/checkov.yaml", "--file"])
                .arg(template))?;
            run(in_workspace(more.command("cfn-lint"))
                .args(["--config-file", "infra/cfn-lint-serverless.yaml", "--template"])
                .arg(template))?;
        }
    }
    if options.sam {
        say("sam validate --lint");
        let mut sam = in_workspace(Tools::of("sam")?.command("sam"));
        sam.args(["validate", "--lint", "--region", "us-east-1", "--template", "template.yaml"])
            .env("SAM_CLI_TELEMETRY", "0");
        run(&mut sam)?;
    }
    run(in_workspace(Command::new("cargo"))
        .args(["test", "--quiet", "--locked", "--package", "eventplane-tests"])
        .args(["--test", "template", "--", "--ignored"]))
}

/// Writes the expansions to `target/template/`.
///
/// # Errors
/// SAM refuses the template.
pub fn expand(lint: &Tools) -> Result<Vec<PathBuf>> {
    let folder = crate::workspace().join("target/template");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut expanded = Vec::new();
    for (name, parameters) in VARIANTS {
        let file = folder.join(format!("{name}.json"));
        run(lint
            .command("python")
            .current_dir(crate::workspace())
            .args(["xtask/python/expand.py", "template.yaml"])
            .arg(&file)
            .args(parameters))?;
        expanded.push(file);
    }
    Ok(expanded)
}
