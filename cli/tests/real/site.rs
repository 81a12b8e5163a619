//! A site for the tests of real agents: a control plane as a process of its own, and hosts of this
//! machine, each with its agent, its port and its folder.

use eventplane_agent::{Answer, Http, Method, Transport};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The command under test.
pub(crate) const EVENTPLANE: &str = env!("CARGO_BIN_EXE_eventplane");
/// The program that most instances run.
pub(crate) const PORT: u16 = 8080;

/// A process whose lines on both outputs are kept, and which ends with its owner.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) said: Arc<Mutex<String>>,
    /// They end with its outputs.
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Process {
        let mut child = Command::new(EVENTPLANE)
            .args(arguments)
            .env_remove("EVENTPLANE_ENDPOINT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let said = Arc::new(Mutex::new(String::new()));
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        let reader = |output: Box<dyn Read + Send>| {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let mut said = said.lock().expect("no panic");
                    said.push_str(&line);
                    said.push('\n');
                }
            })
        };
        let readers = outputs.map(reader).into();
        Process { child, said, readers }
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
    }

    pub(crate) async fn until_it_says(&mut self, word: &str) {
        until(&format!("`{word}`: {}", self.said()), async || {
            assert!(self.child.try_wait().expect("waited").is_none(), "ended: {}", self.said());
            self.said().contains(word)
        })
        .await;
    }

    /// Waits until it has ended and all that it said is read, and says with which code it ended.
    pub(crate) async fn code(&mut self) -> Option<i32> {
        let mut code = None;
        until("its end", async || {
            code = self.child.try_wait().expect("waited");
            code.is_some()
        })
        .await;
        for reader in self.readers.drain(..) {
            reader.join().expect("no panic");
        }
        code.and_then(|status| status.code())
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until it holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "{what} never came");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Says why a test shows nothing here, past what keeps the output of tests that pass to itself.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// A plane and its hosts. What runs on them ends with it.
pub(crate) struct Site {
    pub(crate) dir: TempDir,
    pub(crate) plane: Option<Process>,
    pub(crate) agents: Vec<Process>,
    pub(crate) address: SocketAddr,
    pub(crate) http: Http,
    pub(crate) subnet: String,
    /// What the instances' addresses begin with.
    network: String,
}

impl Site {
    /// A plane with so many hosts in one zone, whose instances have addresses in `network`.
    pub(crate) async fn new(hosts: usize, network: &str) -> Site {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
        let address = port.expect("a port is free");
        let http = Http::new(&format!("http://{address}")).expect("an endpoint");
        let dir = tempfile::Builder::new().prefix("ep-").tempdir().expect("a folder");
        let (agents, subnet, network) = (Vec::new(), String::new(), network.to_owned());
        let mut site = Site { dir, plane: None, agents, address, http, subnet, network };
        site.start_plane().await;
        for index in 0..hosts {
            site.describe_host(&host_id(index), "");
            let agent = site.start_agent(&host_id(index)).await;
            site.agents.push(agent);
        }
        let body = json!({ "zone": "zone-a", "cidr_block": format!("{}.0/24", site.network) });
        let subnet = site.post("/v1/subnets", body).await;
        site.subnet = subnet["subnet_id"].as_str().unwrap_or_else(|| panic!("{subnet}")).to_owned();
        site
    }

    pub(crate) async fn start_plane(&mut self) {
        let data_dir = self.path("plane").display().to_string();
        let port = self.address.port().to_string();
        let up = ["up", "--data-dir", &data_dir, "--port", &port, "--hosts", "0"];
        let mut plane = Process::start(&[&up[..], &["--zones", "zone-a"]].concat());
        plane.until_it_says("ready").await;
        self.plane = Some(plane);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a host's `host.toml`, with these lines besides.
    pub(crate) fn describe_host(&self, host_id: &str, more: &str) {
        let volumes = self.path("volumes");
        let text = format!(
            "host_id = \"{host_id}\"\nzone = \"zone-a\"\nrack = \"{host_id}\"\ndata_dir = \"{host_id}\"\n\
             volumes_dir = \"{}\"\nheartbeat_s = 1\n{more}\n[capacity]\nvcpus = 64\nmemory_mib = 65536\n\
             network_mbps = 10000\n",
            volumes.display()
        );
        fs::write(self.path(&format!("{host_id}.toml")), text).expect("written");
    }

    pub(crate) fn agent(&self, host_id: &str) -> Process {
        let config = self.path(&format!("{host_id}.toml")).display().to_string();
        let endpoint = self.http.endpoint().to_owned();
        Process::start(&["agent", "--host-config", &config, "--endpoint", &endpoint])
    }

    pub(crate) async fn start_agent(&self, host_id: &str) -> Process {
        let mut agent = self.agent(host_id);
        agent.until_it_says("ready").await;
        agent
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string().into_bytes());
        self.http.send(method, path, body).await.expect("the plane answers")
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.send(Method::POST, path, Some(body)).await;
        let said = answer.json().unwrap_or_default();
        assert!(answer.is_success(), "{path}: {} {said}", answer.status);
        said
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path, None).await;
        let said = answer.json().unwrap_or_default();
        assert!(answer.is_success(), "{path}: {} {said}", answer.status);
        said
    }

    /// Launches with this user data, and these fields besides.
    pub(crate) async fn launch(&self, count: usize, user_data: &str, more: Value) -> Vec<String> {
        let mut body = json!({
            "instance_type": "t3.micro", "count": count, "subnet_id": self.subnet,
            "user_data": user_data,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let launched = self.post("/v1/instances", body).await;
        let ids = launched["instances"].as_array().expect("instances").iter();
        ids.map(|one| one["instance_id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Waits until an instance is in this state.
    pub(crate) async fn state(&self, id: &str, state: &str) -> Value {
        let path = format!("/v1/instances/{id}?until={state}&wait=20");
        let end = Instant::now() + PATIENCE;
        loop {
            let instance = self.get(&path).await;
            if instance["state"] == state {
                return instance;
            }
            assert!(Instant::now() < end, "{id} is not {state}: {instance}");
        }
    }

    /// Where an instance's directory is, on the host that has it.
    pub(crate) fn run_dir(&self, host_id: &str, id: &str) -> PathBuf {
        self.path(host_id).join("instances/default").join(id)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.agents.clear();
        self.plane = None;
        // What runs outlives all of that: it is ended by its process id.
        for run in runs(self.dir.path()) {
            let _ = Command::new("kill").arg(run.to_string()).status();
        }
    }
}

/// The keepers of all instances of a site.
fn runs(dir: &Path) -> Vec<i64> {
    let mut pids = Vec::new();
    for host in fs::read_dir(dir).into_iter().flatten().flatten() {
        let instances = host.path().join("instances/default");
        for instance in fs::read_dir(instances).into_iter().flatten().flatten() {
            let run = fs::read(instance.path().join("run.json")).unwrap_or_default();
            let run: Value = serde_json::from_slice(&run).unwrap_or_default();
            pids.extend(run["pid"].as_i64());
        }
    }
    pids
}

pub(crate) fn host_id(index: usize) -> String {
    format!("host-{index}")
}

/// User data of an instance that says who it is at its address.
pub(crate) fn hello() -> String {
    format!("#!/bin/sh\nexec {EVENTPLANE} hello \"$EVENTPLANE_PRIVATE_IP:{PORT}\"\n")
}

/// The address of an instance, as the plane knows it.
pub(crate) fn address(instance: &Value) -> SocketAddr {
    let ip = instance["private_ip"].as_str().unwrap_or_else(|| panic!("{instance}"));
    SocketAddr::new(ip.parse().expect("an address"), PORT)
}

/// What stands behind an address, asked by HTTP.
pub(crate) async fn ask(address: SocketAddr) -> Result<String, String> {
    let http = Http::new(&format!("http://{address}")).map_err(|error| error.to_string())?;
    let answer = http.send(Method::GET, "/", None).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// The process that answered.
pub(crate) fn process(hello: &str) -> String {
    hello.trim().rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Whether somebody listens there.
pub(crate) fn is_open(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
