//! The deployed stack, its simulated hosts, and whoever uses it: the `eventplane` command.

use super::emulator::{Emulator, with_account};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The stack's name.
pub(super) const STACK: &str = "plane";
/// The bucket that the functions' code goes through.
const BUCKET: &str = "eventplane-artifacts";
/// How many simulated hosts there are.
const HOSTS: &str = "6";
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A deployed stack with hosts.
pub(super) struct Site<'e> {
    /// What it is deployed on.
    pub emulator: &'e Emulator,
    command: PathBuf,
    endpoint: String,
    agent: Option<Child>,
}

impl<'e> Site<'e> {
    /// Deploys `template.yaml` itself, with what `samconfig.toml` says for an emulator, and starts
    /// simulated hosts.
    ///
    /// # Errors
    /// When it cannot be deployed, or its hosts do not register.
    pub(super) fn deploy(emulator: &'e Emulator, command: PathBuf, dir: &Path) -> Result<Site<'e>> {
        emulator.call("s3", "create_bucket", &json!({ "Bucket": BUCKET }))?;
        let mut sam = emulator.tool("sam");
        sam.args(deploy_words()?).args(["--stack-name", STACK]);
        let output = sam.output()?;
        ensure!(output.status.success(), "sam deploy failed:\n{}", told(&output));
        let stacks =
            emulator.call("cloudformation", "describe_stacks", &json!({ "StackName": STACK }))?;
        let outputs = stacks["Stacks"][0]["Outputs"].as_array().cloned().unwrap_or_default();
        let api = outputs.iter().find(|output| output["OutputKey"] == "ApiId");
        let api = api.and_then(|api| api["OutputValue"].as_str()).context("an output ApiId")?;
        let endpoint = format!("{}/_aws/execute-api/{api}/$default", emulator.endpoint());
        let mut site = Site { emulator, command, endpoint, agent: None };
        let log = std::fs::File::create(dir.join("agent.log"))?;
        let mut agent = site.eventplane(&["agent", "--simulated", HOSTS, "--prefix", "e2e"]);
        agent.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        site.agent = Some(agent.spawn().context("the agent could not be started")?);
        site.until("all hosts are registered", |site| {
            let hosts = site.run(&["hosts"])?["hosts"].as_array().map_or(0, Vec::len);
            Ok(hosts.to_string() == HOSTS)
        })?;
        Ok(site)
    }

    /// Where its HTTP API is.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The command, with these words: signing, as the API asks for.
    fn eventplane(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.command);
        command.arg("--sign").args(["--endpoint", &self.endpoint]).args(words);
        with_account(&mut command, self.emulator.endpoint());
        command
    }

    /// What the command prints with these words: JSON, since nobody looks.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub(super) fn run(&self, words: &[&str]) -> Result<Value> {
        let output = self.eventplane(words).output()?;
        ensure!(output.status.success(), "eventplane {}: {}", words.join(" "), told(&output));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs the command many times at the same moment, with these words.
    ///
    /// # Errors
    /// When one of them fails.
    pub(super) fn run_at_once(&self, times: usize, words: &[&str]) -> Result<Vec<Value>> {
        let start = |_| {
            let mut command = self.eventplane(words);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        };
        let children = (0..times).map(start).collect::<Result<Vec<_>, _>>()?;
        let mut answers = Vec::new();
        for child in children {
            let output = child.wait_with_output()?;
            ensure!(output.status.success(), "eventplane {}: {}", words.join(" "), told(&output));
            answers.push(serde_json::from_slice(&output.stdout)?);
        }
        Ok(answers)
    }

    /// Launches with these words, and answers the ids.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn launch(&self, words: &[&str]) -> Result<Vec<String>> {
        let answer = self.run(&[&["launch"], words].concat())?;
        let instances = answer["instances"].as_array().cloned().unwrap_or_default();
        let id = |instance: &Value| instance["instance_id"].as_str().map(str::to_owned);
        instances.iter().map(|one| id(one).context("an instance has an id")).collect()
    }

    /// Waits until an instance is in `state`; what it is then.
    ///
    /// # Errors
    /// When it ends in another state, or not in time.
    pub(super) fn until_state(&self, id: &str, state: &str) -> Result<Value> {
        let mut seen = Value::Null;
        self.until(&format!("{id} is {state}"), |site| {
            seen = site.run(&["describe", id])?;
            let is_over = seen["state"] == "terminated" && state != "terminated";
            ensure!(!is_over, "{id} ended: {seen:#}");
            Ok(seen["state"] == state)
        })?;
        Ok(seen)
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// When it is not in time, or cannot be looked at.
    pub(super) fn until(
        &self,
        what: &str,
        mut is: impl FnMut(&Site) -> Result<bool>,
    ) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if is(self)? {
                return Ok(());
            }
        }
        bail!("waited {PATIENCE:?} in vain until {what}")
    }

    /// Waits until every inbox is empty, and nothing is being handled.
    ///
    /// # Errors
    /// When they are not in time.
    pub(super) fn until_quiet(&self) -> Result<()> {
        self.until("all inboxes are empty", |site| {
            for inbox in super::INBOXES {
                if site.messages(&format!("{inbox}Inbox"))? > 0 {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// The physical id of a resource, by its logical id: of a queue, its address.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn resource(&self, id: &str) -> Result<String> {
        let arguments = json!({ "StackName": STACK, "LogicalResourceId": id });
        let answer = self.emulator.call("cloudformation", "describe_stack_resource", &arguments)?;
        let physical = answer["StackResourceDetail"]["PhysicalResourceId"].as_str();
        Ok(physical.with_context(|| format!("{id} is not in the stack"))?.to_owned())
    }

    /// The version of a function that its alias `live` stands for.
    ///
    /// # Errors
    /// When there is no such function.
    pub(super) fn deployed(&self, function: &str) -> Result<String> {
        let alias = json!({ "FunctionName": format!("{STACK}-{function}"), "Name": "live" });
        let answer = self.emulator.call("lambda", "get_alias", &alias)?;
        Ok(answer["FunctionVersion"].as_str().context("an alias has a version")?.to_owned())
    }

    /// Lets a function's alias stand for a version: back to it, when a later one was bad.
    ///
    /// # Errors
    /// When there is no such version.
    pub(super) fn deploy_version(&self, function: &str, version: &str) -> Result<()> {
        let name = format!("{STACK}-{function}");
        let alias = json!({ "FunctionName": name, "Name": "live", "FunctionVersion": version });
        self.emulator.call("lambda", "update_alias", &alias).map(drop)
    }

    /// Deploys a function that looks for its table where there is none.
    ///
    /// # Errors
    /// When it cannot be deployed.
    pub(super) fn deploy_broken(&self, function: &str) -> Result<()> {
        let aws = self.emulator;
        let name = json!(format!("{STACK}-{function}"));
        let told = json!({ "FunctionName": name });
        let now = aws.call("lambda", "get_function_configuration", &told)?;
        let mut variables = now["Environment"]["Variables"].clone();
        variables[format!("TABLE_{}", function.to_uppercase())] = json!("nowhere");
        // Five tries take no longer than they must.
        variables["RETRY_WAITS_S"] = json!("1,1,1,1");
        let broken = json!({ "FunctionName": name, "Environment": { "Variables": variables } });
        aws.call("lambda", "update_function_configuration", &broken)?;
        let version = aws.call("lambda", "publish_version", &told)?;
        let version = version["Version"].as_str().context("a version has a number")?;
        let broken = self.deploy_version(function, version);
        // The next version is made from the good settings again.
        let mended = json!({ "FunctionName": name, "Environment": { "Variables": now["Environment"]["Variables"] } });
        aws.call("lambda", "update_function_configuration", &mended)?;
        broken
    }

    /// Deletes the stack.
    ///
    /// # Errors
    /// When it does not go.
    pub(super) fn delete(&self) -> Result<()> {
        let stack = json!({ "StackName": STACK });
        self.emulator.call("cloudformation", "delete_stack", &stack)?;
        self.until("the stack is deleted", |site| {
            let Ok(stacks) = site.emulator.call("cloudformation", "describe_stacks", &stack) else {
                return Ok(true);
            };
            let status = &stacks["Stacks"][0]["StackStatus"];
            Ok(status.is_null() || status == "DELETE_COMPLETE")
        })
    }

    /// Deletes what the stack has left, as its owner would.
    ///
    /// # Errors
    /// When the command refuses.
    pub(super) fn purge_data(&self) -> Result<()> {
        let words = ["purge", "--stack", STACK, "--yes-delete", STACK];
        let output = self.eventplane(&words).output()?;
        ensure!(output.status.success(), "eventplane purge: {}", told(&output));
        Ok(())
    }

    /// How many messages a queue has, hidden ones included.
    ///
    /// # Errors
    /// When there is no such queue.
    pub(super) fn messages(&self, queue: &str) -> Result<u64> {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let arguments = json!({ "QueueUrl": self.resource(queue)?, "AttributeNames": names });
        let answer = self.emulator.call("sqs", "get_queue_attributes", &arguments)?;
        let count = |name: &str| answer["Attributes"][name].as_str()?.parse::<u64>().ok();
        Ok(names.iter().filter_map(|name| count(name)).sum())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

/// How the README says that one deploys on an emulator, without the first word.
fn deploy_words() -> Result<Vec<String>> {
    let readme = std::fs::read_to_string(crate::workspace().join("README.md"))?;
    let block = readme.split("```sh emulator\n").nth(1).and_then(|rest| rest.split("```").next());
    let lines = block.context("the README has a block for an emulator")?.lines();
    let line = lines.filter_map(|line| line.strip_prefix("sam ")).next();
    let words = line.context("the README says how to deploy on an emulator")?.split(' ');
    Ok(words.map(str::to_owned).collect())
}

/// What a program has said.
fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
