//! `eventplane up` as a process of its own.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long a plane may take until it is ready, or has said why it will not be.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running plane; killed when it is dropped.
pub struct Up {
    child: Child,
    /// What it prints; closed, it could not print any more.
    said: Lines<BufReader<ChildStdout>>,
}

/// Why a plane did not become ready.
#[derive(Debug)]
pub struct NotReady {
    /// How it ended; `None` when it had to be killed.
    pub status: Option<ExitStatus>,
    /// What it said on standard error.
    pub error: String,
}

impl Up {
    /// Starts `binary up` with its data in `dir`, through `shell` if one is to prepare the process:
    /// a command that ends in `exec "$@"`.
    ///
    /// # Panics
    /// When there is no such program.
    #[must_use]
    pub fn spawn(binary: &Path, dir: &Path, shell: Option<&str>) -> Up {
        let mut command = match shell {
            None => Command::new(binary),
            Some(script) => {
                let mut command = Command::new("sh");
                command.args(["-c", script, "sh"]).arg(binary);
                command
            }
        };
        let mut child = command
            .args(["up", "--port", "0", "--hosts", "12", "--data-dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the command starts");
        let said = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Up { child, said }
    }

    /// Waits until it is ready: where it answers.
    ///
    /// # Errors
    /// [`NotReady`] when it ends before, or does not get there.
    pub async fn ready(&mut self) -> Result<String, NotReady> {
        let line = timeout(PATIENCE, self.said.next_line()).await;
        if let Ok(Ok(Some(line))) = &line
            && let Some(endpoint) = line.split_whitespace().find(|word| word.starts_with("http://"))
        {
            // It may say more than a pipe holds.
            let mut stderr = self.child.stderr.take().expect("a pipe");
            tokio::spawn(async move { tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await });
            return Ok(endpoint.to_owned());
        }
        let mut error = String::new();
        let mut stderr = self.child.stderr.take().expect("a pipe");
        let ended = timeout(PATIENCE, async {
            let _ = stderr.read_to_string(&mut error).await;
            self.child.wait().await
        });
        let status = ended.await.ok().and_then(Result::ok);
        Err(NotReady { status, error })
    }

    /// SIGKILL: the process has no say in it.
    ///
    /// # Panics
    /// When it is gone already, by itself.
    pub async fn kill(&mut self) {
        let gone = self.child.try_wait().expect("it can be asked");
        assert!(gone.is_none(), "it ended by itself: {gone:?}");
        self.child.kill().await.expect("it can be killed");
    }

    /// SIGTERM: it ends by itself, with this status.
    ///
    /// # Panics
    /// When it does not.
    pub async fn end(mut self) -> ExitStatus {
        let id = self.child.id().expect("it runs").to_string();
        let told = Command::new("kill").arg(id).status().await.expect("`kill` is there");
        assert!(told.success(), "it can be told to end");
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it can be waited for")
    }
}
