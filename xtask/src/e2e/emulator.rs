//! AWS's stand-in: a process of this machine on loopback that knows DynamoDB, EventBridge, SQS,
//! Lambda, API Gateway, KMS and CloudFormation.

use crate::python::Tools;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to answer for the first time.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to end, with the functions that it started.
const ENDS: Duration = Duration::from_secs(20);
/// How many processes of functions it may have.
const PROCESSES_MAX: &str = "120";
/// The region of everything.
pub const REGION: &str = "us-east-1";

/// A running emulator. It ends when this is dropped.
pub struct Emulator {
    child: Child,
    endpoint: String,
    log: PathBuf,
    sam: Tools,
}

impl Emulator {
    /// Starts one on a free port; what it says goes into a file of `dir`.
    ///
    /// # Errors
    /// When it cannot be installed or does not answer.
    pub fn start(dir: &Path) -> Result<Emulator> {
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
        let mut emulator = Emulator { child, endpoint, log, sam };
        emulator.ready()?;
        Ok(emulator)
    }

    fn ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        let health = format!("{}/_ministack/health", self.endpoint);
        while begun.elapsed() < READY {
            if let Some(status) = self.child.try_wait()? {
                bail!("the emulator ended: {status}; {} says why", self.log.display());
            }
            let asked = Command::new(self.sam.bin().join("python"))
                .args(["-c", "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])"])
                .arg(&health)
                .stderr(Stdio::null())
                .status()?;
            if asked.success() {
                return Ok(());
            }
        }
        bail!("the emulator did not answer in {READY:?}")
    }

    /// Where it answers.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What it and its functions have said.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// A program of AWS's tools, told where AWS is.
    #[must_use]
    pub fn tool(&self, name: &str) -> Command {
        let mut command = self.sam.command(name);
        command.current_dir(crate::workspace());
        with_account(&mut command, &self.endpoint);
        command
    }

    /// Calls AWS, such as `call("sqs", "send_message", &json!({ … }))`.
    ///
    /// # Errors
    /// What it refuses, with its words.
    pub fn call(&self, service: &str, method: &str, arguments: &Value) -> Result<Value> {
        let mut python = self.tool("python");
        python.args(["xtask/python/call.py", service, method]).arg(arguments.to_string());
        let output = python.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{service} {method}: {said}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Tells a program where AWS is, and who it is there.
pub fn with_account(command: &mut Command, endpoint: &str) {
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
