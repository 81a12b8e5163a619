//! AWS's stand-in: a process of this machine on loopback that knows DynamoDB, EventBridge, SQS,
//! Lambda, API Gateway, KMS and CloudFormation.

use crate::python::Tools;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to answer for the first time.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to end, with the functions that it started.
const ENDS: Duration = Duration::from_secs(20);
/// How many processes of functions it may have.
const PROCESSES_MAX: &str = "120";
/// The region of everything.
pub(super) const REGION: &str = "us-east-1";

/// A running emulator. It ends when this is dropped.
pub(super) struct Emulator {
    child: Child,
    endpoint: String,
    log: PathBuf,
    sam: Tools,
    calls: RefCell<Option<Calls>>,
}

impl Emulator {
    /// Starts one on a free port; what it says goes into a file of `dir`.
    ///
    /// # Errors
    /// When it cannot be installed or does not answer.
    pub(super) fn start(dir: &Path) -> Result<Emulator> {
        let (tools, sam) = (Tools::of("emulator")?, Tools::of("sam")?);
        // Free a moment ago: nobody else on this machine asks for it in between.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let endpoint = format!("http://127.0.0.1:{port}");
        let log = dir.join("emulator.log");
        let file = File::create(&log)?;
        let mut command = tools.command("python");
        command
            .arg(crate::workspace().join("xtask/python/emulator.py"))
            .current_dir(dir)
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("IOT_MTLS_ENABLED", "0")
            .env("SFTP_ENABLED", "0")
            .env("LOG_LEVEL", "INFO")
            .env("LAMBDA_ACCOUNT_CONCURRENCY", PROCESSES_MAX)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        // Functions find it where their own environment says, which they have from it.
        with_account(&mut command, &endpoint);
        let child = command.spawn().context("the emulator could not be started")?;
        let mut emulator = Emulator { child, endpoint, log, sam, calls: RefCell::default() };
        emulator.ready()?;
        Ok(emulator)
    }

    fn ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < READY {
            if let Some(status) = self.child.try_wait()? {
                bail!("the emulator ended: {status}; {} says why", self.log.display());
            }
            if self.answers_health().is_ok_and(|answers| answers) {
                return Ok(());
            }
        }
        bail!("the emulator did not answer in {READY:?}")
    }

    fn answers_health(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(self.endpoint.trim_start_matches("http://"))?;
        stream.set_read_timeout(Some(READY))?;
        stream.write_all(b"GET /_ministack/health HTTP/1.0\r\n\r\n")?;
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status)?;
        Ok(status.contains(" 200"))
    }

    /// Where it answers.
    #[must_use]
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its process, whose children are the functions.
    #[must_use]
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it and its functions have said.
    #[must_use]
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// A program of AWS's tools, told where AWS is.
    #[must_use]
    pub(super) fn tool(&self, name: &str) -> Command {
        let mut command = self.sam.command(name);
        command.current_dir(crate::workspace());
        with_account(&mut command, &self.endpoint);
        command
    }

    /// Calls AWS, such as `call("sqs", "send_message", &json!({ … }))`.
    ///
    /// # Errors
    /// What it refuses, with its words.
    pub(super) fn call(&self, service: &str, method: &str, arguments: &Value) -> Result<Value> {
        let mut calls = self.calls.borrow_mut();
        let calls = match &mut *calls {
            Some(calls) => calls,
            none => none.insert(Calls::start(self.tool("python"))?),
        };
        writeln!(calls.asked, "{}", json!([service, method, arguments]))?;
        let mut line = String::new();
        calls.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("AWS's tool has ended")?;
        match answer["refused"].as_str() {
            Some(why) => bail!("{service} {method}: {why}"),
            None => Ok(answer),
        }
    }
}

/// AWS's own library in a process of its own, kept running: starting it takes longer than a call.
struct Calls {
    child: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Calls {
    fn start(mut python: Command) -> Result<Calls> {
        python.arg("xtask/python/call.py").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn()?;
        let (asked, answers) = (child.stdin.take(), child.stdout.take());
        let answers = BufReader::new(answers.context("its output")?);
        Ok(Calls { child, asked: asked.context("its input")?, answers })
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells a program where AWS is, and who it is there.
pub(super) fn with_account(command: &mut Command, endpoint: &str) {
    command
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_DEFAULT_REGION", REGION)
        .env("AWS_REGION", REGION)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("SAM_CLI_TELEMETRY", "0");
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Told to end, it ends its functions too.
        let told = Command::new("kill").arg(self.child.id().to_string()).status();
        let begun = Instant::now();
        while told.as_ref().is_ok_and(std::process::ExitStatus::success) && begun.elapsed() < ENDS {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::yield_now();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
