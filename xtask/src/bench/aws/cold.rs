//! One function, started again and again.

use super::runtime_api::{Did, RuntimeApi};
use super::stub::Aws;
use crate::lambda::{FUNCTIONS, binary};
use anyhow::{Context, Result, bail};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// What is measured of one start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Until it asks for its first event; and its memory then.
    ToFirstPoll,
    /// Until it has answered its first event.
    ToFirstAnswer,
}

/// What was measured of one function.
pub(super) struct Cold {
    function: &'static str,
    polls: Vec<Duration>,
    answers: Vec<Duration>,
    memory_kib: Vec<u64>,
    requests: u64,
}

/// Milliseconds to the first poll and to the first answer.
pub(super) type Medians = (f64, f64);

impl Cold {
    pub(super) fn new(function: &'static str) -> Self {
        Cold { function, polls: vec![], answers: vec![], memory_kib: vec![], requests: 0 }
    }

    /// Starts it once.
    pub(super) async fn start(&mut self, until: Start, aws: &Aws) -> Result<()> {
        let event = (until == Start::ToFirstAnswer).then(|| event(self.function));
        let mut api = RuntimeApi::start(event).await?;
        let mut command = Command::new(binary(self.function));
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", api.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", self.function)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench")
            .env("RUST_LOG", "error")
            .env("BUS_NAME", "bench")
            .env("MASTER_KEY_ID", "bench")
            .env("DEAD_LETTERS_URL", "https://sqs.us-east-1.amazonaws.com/0/bench")
            .env("INBOX_URL", "https://sqs.us-east-1.amazonaws.com/0/bench")
            .env("RETRY_WAITS_S", "1,1,1,1")
            .env("LAUNCH_DEADLINE_S", "60")
            .envs(FUNCTIONS.map(|name| (format!("TABLE_{}", name.to_uppercase()), "bench")))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if until == Start::ToFirstAnswer {
            command.env("AWS_ENDPOINT_URL", &aws.endpoint).env("SSL_CERT_FILE", &aws.roots);
        }
        let before = aws.requests();
        let begun = Instant::now();
        let mut child = command.spawn().with_context(|| self.function.to_owned())?;
        let Did::Polled(polled) = api.next().await.with_context(|| self.function.to_owned())?
        else {
            bail!("{} answered before it was asked", self.function);
        };
        if until == Start::ToFirstPoll {
            let id = child.id().context("it runs")?;
            self.memory_kib.push(memory_kib(id)?);
            self.polls.push(polled - begun);
        } else {
            match api.next().await.with_context(|| self.function.to_owned())? {
                Did::Answered(at) => self.answers.push(at - begun),
                Did::Failed(why) => bail!("{} could not handle its event: {why}", self.function),
                Did::Polled(_) => bail!("{} asked again without an answer", self.function),
            }
            self.requests = aws.requests() - before;
        }
        child.kill().await?;
        Ok(())
    }

    pub(super) fn medians(&self) -> Medians {
        (median_ms(&self.polls), median_ms(&self.answers))
    }

    /// A line for people; `hello` is what everything is measured beside.
    pub(super) fn line(&self, hello: Medians) -> String {
        let (poll, answer) = self.medians();
        let memory = self.memory_kib.iter().max().copied().unwrap_or_default() as f64 / 1024.0;
        format!(
            "  {:<10} first poll {poll:>5.1} ms ({:+.1}), first answer {answer:>5.1} ms ({:+.1}, {} \
             requests), {memory:.1} MiB resident at the first poll",
            self.function,
            poll - hello.0,
            answer - hello.1,
            self.requests,
        )
    }
}

fn median_ms(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// The resident memory of a process.
///
/// Source: proc(5), `/proc/pid/status`, VmRSS.
fn memory_kib(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.context("a process has memory")?.trim().parse().context("kilobytes")
}

/// An event of each function's own; about an instance that no table knows.
fn event(function: &str) -> String {
    let sample = |name: &str| {
        let file = crate::workspace().join("events/samples").join(format!("{name}.json"));
        std::fs::read_to_string(file).unwrap_or_default()
    };
    match function {
        "api" => r#"{"version": "2.0", "rawPath": "/v1/instances/i-00000000000000000",
            "rawQueryString": "", "headers": {}, "isBase64Encoded": false, "requestContext": {
            "http": {"method": "GET", "path": "/v1/instances/i-00000000000000000"},
            "authorizer": {"iam": {"accountId": "000000000000"}}, "stage": "$default"}}"#
            .to_owned(),
        // A report of an instance that has no record is one read, and nothing more.
        "instances" => sample("InstanceRunning"),
        "handoff" => sample("InstanceHalted"),
        _ => sample("InstanceWithdrawn"),
    }
}
