//! The HTTP API of a running plane, asked by Schemathesis whatever its document allows, and what it
//! does not.

use crate::python::{Tools, run};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What has to hold of every answer. That all of the document's values are taken is not asked: an id
/// may be of its form and name nothing.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      negative_data_rejection,unsupported_method,allow_header_conformance,\
                      use_after_free,ensure_resource_availability";
/// How many requests each operation gets in each phase.
const EXAMPLES: &str = "10";
/// How many instances there are to be asked about.
const INSTANCES: &str = "4";
/// How long an answer may take: as long as may be waited for, and as much again.
const PATIENCE_S: &str = "60";
/// The parts of an address where something goes by its name: (parameter, the names).
const NAMED: [(&str, &str); 4] = [
    ("host_id", "hosts"),
    ("function", "functions"),
    ("instance_id", "instances"),
    ("wait", "waits"),
];

/// A plane in a process of its own, ended with this.
struct Plane {
    child: Child,
    endpoint: String,
}

impl Drop for Plane {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Plane {
    /// Starts the command's plane, without limits, on a port that it picks.
    fn start(program: &Path) -> Result<Plane> {
        let mut child = Command::new(program)
            .args(["up", "--port", "0", "--limits", "off"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the plane could not be started")?;
        let output = child.stdout.take().context("its output")?;
        let mut plane = Plane { child, endpoint: String::new() };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let endpoint = line.split_whitespace().find(|word| word.starts_with("http://"));
        plane.endpoint = endpoint.with_context(|| format!("not ready: {line}"))?.to_owned();
        Ok(plane)
    }

    /// The ids that the command prints with these words.
    fn ids(&self, program: &Path, words: &[&str]) -> Result<Vec<String>> {
        let mut command = Command::new(program);
        command.args(["--endpoint", &self.endpoint, "--output", "ids"]).args(words);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }
}

/// Asks for as long, or a round.
pub(super) fn fuzz(seed: u64, for_s: Option<u64>) -> Result<()> {
    let tools = Tools::of("schemathesis")?;
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--locked", "--package", "eventplane"]);
    run(build.current_dir(crate::workspace()))?;
    let program = crate::workspace().join("target/debug/eventplane");
    let mut plane = Plane::start(&program)?;
    let dir = tempfile::tempdir()?;
    let instances = plane.ids(&program, &["launch", "t3.micro", "--count", INSTANCES, "--wait"])?;
    let hosts = plane.ids(&program, &["hosts"])?;
    std::fs::write(dir.path().join("schemathesis.toml"), config(&instances, &hosts))?;
    let mut asks = tools.command("schemathesis");
    asks.current_dir(dir.path())
        .arg("run")
        .arg(format!("{}/openapi.json", plane.endpoint))
        .args(["--checks", CHECKS, "--request-timeout", PATIENCE_S, "--no-color"])
        .args(["--seed", &seed.to_string(), "--suppress-health-check", "all"])
        .args(["--warnings", "off", "--continue-on-failure"]);
    match for_s {
        Some(seconds) => asks.args(["--max-time", &seconds.to_string()]),
        None => asks.args(["--max-examples", EXAMPLES]),
    };
    run(&mut asks)?;
    ensure!(plane.child.try_wait()?.is_none(), "the plane has ended by itself");
    Ok(())
}

/// What Schemathesis knows besides the document: names of what is there, so that not all of what it
/// asks about is unknown. It asks about others too.
fn config(instances: &[String], hosts: &[String]) -> String {
    let functions = json!(["capacity", "network", "storage", "security", "handoff", "instances"]);
    let words = json!([
        "t3.micro",
        "default",
        "zone-a",
        "local-a",
        "running",
        "terminated",
        "gp3",
        "tcp",
        "0.0.0.0/0",
        "10.0.0.0/24",
        "ingress",
        hosts.first(),
        instances.first()
    ]);
    let dictionary =
        |name: &str, values: &Value| format!("[dictionaries.{name}]\nvalues = {values}\n");
    let mut text = [
        dictionary("instances", &json!(instances)),
        dictionary("hosts", &json!(hosts)),
        dictionary("functions", &functions),
        dictionary("waits", &json!([0, 1])),
        dictionary("words", &words),
    ]
    .concat();
    text.push_str("[parameters]\n");
    for (parameter, of) in NAMED {
        // No request waits for long: a run has many.
        let probability = if of == "waits" { 1.0 } else { 0.7 };
        text.push_str(&format!(
            "{parameter} = {{ dictionary = \"{of}\", probability = {probability:.1} }}\n"
        ));
    }
    text.push_str(
        "[generation.dictionaries]\nstring = { dictionary = \"words\", probability = 0.2 }\n",
    );
    text
}
