//! Pages whose commands are run as a person would paste them: their blocks, and a terminal.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a page may keep its reader waiting for a line.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a person takes to look once more.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Ends a block's output.
const END: &str = "<end of the block>";
/// Begins a line that says which command failed.
const FAILED: &str = "<failed>";

/// A block of commands, and what the page says that they print.
#[derive(Debug)]
pub(crate) struct Block {
    /// What stands behind its fence, such as `sh`.
    pub(crate) info: String,
    pub(crate) code: String,
    /// The lines of the `text` block after it.
    pub(crate) promised: Vec<String>,
}

/// The blocks of a page at the top of the project, in their order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let text = std::fs::read_to_string(path).expect("the page");
    let mut blocks: Vec<Block> = Vec::new();
    // What stands between fences is every second part.
    for fenced in text.split("```").skip(1).step_by(2) {
        let Some((info, code)) = fenced.split_once('\n') else { continue };
        if info == "text" {
            let of = blocks.last_mut().expect("a text block is of the commands before it");
            of.promised = code.lines().map(str::to_owned).collect();
        } else {
            let (info, code) = (info.to_owned(), code.to_owned());
            blocks.push(Block { info, code, promised: Vec::new() });
        }
    }
    blocks
}

/// The first promised line that is not among these, each of which has to come after the one before.
/// `…` stands for anything, and spaces for any number of them.
pub(crate) fn missing<'p>(promised: &'p [String], said: &[String]) -> Option<&'p str> {
    let mut said = said.iter();
    let is_missing = |line: &&String| !said.any(|one| matches(line, one));
    promised.iter().find(is_missing).map(String::as_str)
}

fn matches(promised: &str, said: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (promised, said) = (plain(promised), plain(said));
    let parts: Vec<&str> = promised.split('…').map(str::trim).collect();
    let [first, between @ .., last] = &parts[..] else { return promised == said };
    let mut rest = said.strip_prefix(first);
    for part in between {
        rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, after)| after);
    }
    rest.is_some_and(|rest| rest.ends_with(last))
}

/// A shell in an empty directory, where `eventplane` is the command that was built, on a free port.
/// It prints what a person sees on a terminal: tables.
pub(crate) struct Terminal {
    shell: Child,
    /// Closed, it ends, and with it what it has started.
    commands: Option<ChildStdin>,
    said: Receiver<String>,
    dir: TempDir,
}

impl Terminal {
    pub(crate) fn open() -> Terminal {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("bin");
        // Free a moment ago: nobody else on this machine asks for it in between.
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its address").port();
        let built = env!("CARGO_BIN_EXE_eventplane");
        let script = format!(
            "#!/bin/sh\ncase $1 in\nup) exec '{built}' \"$@\" --port {port} ;;\n\
             *) exec '{built}' \"$@\" ;;\nesac\n"
        );
        std::fs::create_dir(&bin).expect("a directory");
        let command = bin.join("eventplane");
        std::fs::write(&command, script).expect("written");
        std::fs::set_permissions(&command, PermissionsExt::from_mode(0o755)).expect("runnable");
        let here = dir.path().join("here");
        std::fs::create_dir(&here).expect("a directory");
        let mut shell = Command::new("bash")
            .current_dir(here)
            .env("EVENTPLANE_ENDPOINT", format!("http://127.0.0.1:{port}"))
            .env("EVENTPLANE_OUTPUT", "table")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut commands = shell.stdin.take().expect("a pipe");
        let first = "exec 2>&1; trap 'kill $(jobs -p)' EXIT";
        writeln!(commands, "PATH='{}':$PATH; {first}", bin.display()).expect("it listens");
        let lines = BufReader::new(shell.stdout.take().expect("a pipe")).lines();
        let (say, said) = channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| say.send(line)).ok();
        });
        Terminal { shell, commands: Some(commands), said, dir }
    }

    /// Pastes the commands: what is printed until the last has ended.
    pub(crate) fn paste(&mut self, code: &str) -> Vec<String> {
        let path = self.dir.path().join("block");
        let trap = format!("trap 'echo \"{FAILED} $BASH_COMMAND: exit code $?\"' ERR");
        std::fs::write(&path, format!("{trap}\n{code}")).expect("written");
        let commands = self.commands.as_mut().expect("it is open");
        writeln!(commands, ". '{}' < /dev/null; echo '{END}'", path.display()).expect("written");
        let mut lines = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) if line == END => return lines,
                Ok(line) => lines.push(line),
                Err(_) => panic!("nothing more is said to\n{code}\nafter\n{}", lines.join("\n")),
            }
        }
    }

    /// Runs the block: every command succeeds, or says itself with which exit code it fails, and what
    /// is promised appears. A block that is to be typed `again` is, until it does.
    pub(crate) fn run(&mut self, block: &Block) {
        let end = Instant::now() + PATIENCE;
        let is_repeated = block.info.ends_with("again");
        let mut said = self.paste(&block.code);
        while let Some(line) = missing(&block.promised, &said) {
            let (code, told) = (&block.code, said.join("\n"));
            assert!(Instant::now() < end, "`{line}` is not in what was said to\n{code}\n{told}");
            // What runs in the background says it when it has come to it.
            said.extend(self.said.recv_timeout(LOOK_AGAIN));
            if is_repeated {
                said = self.paste(&block.code);
            }
        }
        let failed: Vec<&String> = said.iter().filter(|line| line.starts_with(FAILED)).collect();
        assert!(failed.is_empty(), "{failed:#?} in\n{}\n{}", block.code, said.join("\n"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.commands = None;
        // Whether it could be waited for or not, there is nobody left to tell.
        let _ = self.shell.wait();
    }
}
