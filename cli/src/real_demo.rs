//! `demo --real`: three agents of this machine, with instances that are processes and answer at their
//! addresses; then the agents are killed, and the whole control plane is taken away. Every scene says
//! what has to happen, and the demonstration fails if it does not.

use crate::args::Wait;
use crate::client::Client;
use crate::lifecycle::{self, Change};
use crate::problem::Problem;
use crate::serve::{Ending, failed};
use crate::show::{Ink, Screen, text_at};
use crate::tables;
use eventplane_agent::{Http, Method, Transport};
use eventplane_plane::{Plane, PlaneOptions};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// How long each scene may take, in seconds.
const SCENE_S_MAX: u64 = 30;
/// How many agents.
const HOSTS: usize = 3;
/// The subnet of the demonstration: every address that begins with 127 is this machine's own.
const CIDR: &str = "127.77.0.0/24";
/// Where the instances listen.
const PORT: u16 = 8080;
/// How many requests are sent while the control plane is away.
const REQUESTS: usize = 300;
/// How often something is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// The plane, its agents, and whoever watches.
struct Stage<'a> {
    dir: PathBuf,
    plane: Option<Plane>,
    address: SocketAddr,
    agents: Vec<Child>,
    client: Client,
    screen: &'a mut Screen,
}

/// Plays all scenes; stays up afterwards unless it is to `exit`. Nothing runs on after it.
pub(crate) async fn demo(exit: bool, screen: &mut Screen) -> Result<(), Problem> {
    let mut ending = Ending::listen()?;
    let dir = tempfile::Builder::new().prefix("eventplane-demo-").tempdir();
    let dir = dir.map_err(|error| failed(format!("no temporary directory: {error}")))?;
    let plane = start_plane(dir.path(), SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = plane.address();
    let client = Client::new(&format!("http://{address}"))?;
    let (dir_path, agents) = (dir.path().to_owned(), Vec::new());
    let mut stage = Stage { dir: dir_path, plane: Some(plane), address, agents, client, screen };
    let played = tokio::select! {
        played = stage.play() => played,
        () = ending.told() => Err(failed("ended before all was shown")),
    };
    let ended = match (played, exit) {
        (Ok(ids), false) => {
            stage.next_lines(&ids);
            ending.told().await;
            stage.the_end(&ids).await
        }
        (Ok(ids), true) => stage.the_end(&ids).await,
        (Err(problem), _) => Err(problem),
    };
    stage.clear().await;
    ended
}

async fn start_plane(dir: &Path, listen: SocketAddr) -> Result<Plane, Problem> {
    let defaults = PlaneOptions::default();
    let fleet = eventplane_agent::FleetOptions { hosts: 0, ..defaults.fleet };
    let zones = vec!["zone-a".to_owned()];
    let data_dir = Some(dir.join("plane"));
    let options = PlaneOptions { data_dir, listen, fleet, zones, ..PlaneOptions::default() };
    Plane::start(options).await.map_err(failed)
}

/// Whether it holds before the scene has lasted for too long.
async fn in_time(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(SCENE_S_MAX);
    while !holds().await {
        if Instant::now() >= end {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

/// What an instance answers.
async fn ask(address: SocketAddr) -> Option<String> {
    let http = Http::new(&format!("http://{address}")).ok()?;
    let answer = http.send(Method::GET, "/", None).await.ok()?;
    answer.is_success().then(|| String::from_utf8_lossy(&answer.body).trim().to_owned())
}

/// Waits until an instance answers.
async fn answer(address: SocketAddr) -> Result<String, Problem> {
    let mut text = None;
    in_time(async || {
        text = ask(address).await;
        text.is_some()
    })
    .await;
    text.ok_or_else(|| failed(format!("nothing answers at http://{address}/")))
}

/// The process that answered.
fn process(text: &str) -> &str {
    text.rsplit(' ').next().unwrap_or_default()
}

impl Stage<'_> {
    async fn play(&mut self) -> Result<Vec<String>, Problem> {
        self.raise().await?;
        let (ids, addresses) = self.launch().await?;
        self.kill_the_agents(&addresses).await?;
        self.take_the_plane_away(&addresses).await?;
        self.crash_a_program(addresses[0]).await?;
        Ok(ids)
    }

    fn title(&mut self, text: &str) {
        let text = self.screen.ink(Ink::Bold, text);
        self.screen.line(format!("\n{text}"));
    }

    /// Three agents enrol.
    async fn raise(&mut self) -> Result<(), Problem> {
        self.title("A control plane, and three agents of this machine, each a process");
        for index in 0..HOSTS {
            let host = format!("host-{index}");
            // They share this machine, so each has a part of it, whatever it is.
            let text = format!(
                "host_id = \"{host}\"\nzone = \"zone-a\"\nrack = \"rack-{index}\"\ndata_dir = \"{host}\"\n\
                 [restart]\nfirst_ms = 200\n[capacity]\nvcpus = 4\nmemory_mib = 4096\nnetwork_mbps = 1000\n"
            );
            let path = self.dir.join(format!("{host}.toml"));
            fs::write(path, text).map_err(failed)?;
            let agent = self.start_agent(index)?;
            self.agents.push(agent);
        }
        self.are_ready().await?;
        let hosts = self.client.list("/v1/hosts", "hosts").await?;
        let table = tables::hosts(self.screen, &hosts);
        self.screen.line(table);
        Ok(())
    }

    fn start_agent(&self, index: usize) -> Result<Child, Problem> {
        let me = std::env::current_exe().map_err(failed)?;
        let log = fs::File::create(self.log(index)).map_err(failed)?;
        Command::new(me)
            .args(["agent", "--endpoint", &format!("http://{}", self.address), "--host-config"])
            .arg(self.dir.join(format!("host-{index}.toml")))
            // A Ctrl-C on the terminal is the demonstration's to hear, which still needs its agents.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)
    }

    /// What an agent says.
    fn log(&self, index: usize) -> PathBuf {
        self.dir.join(format!("host-{index}.log"))
    }

    /// Waits until the plane has heard of every agent that was started.
    async fn are_ready(&self) -> Result<(), Problem> {
        let is_ready = |index: usize| {
            fs::read_to_string(self.log(index)).is_ok_and(|said| said.contains("ready"))
        };
        match in_time(async || (0..HOSTS).all(is_ready)).await {
            true => Ok(()),
            false => Err(failed("not all agents have found the control plane")),
        }
    }

    /// An instance on each, whose user data are what it runs.
    async fn launch(&mut self) -> Result<(Vec<String>, Vec<SocketAddr>), Problem> {
        self.title("Three instances, each a process that answers over HTTP");
        let subnet = json!({ "zone": "zone-a", "cidr_block": CIDR });
        let subnet = self.client.post("/v1/subnets", &subnet).await?;
        let me = std::env::current_exe().map_err(failed)?;
        let user_data =
            format!("#!/bin/sh\nexec '{}' hello \"$EVENTPLANE_PRIVATE_IP:{PORT}\"\n", me.display());
        let body = json!({
            "instance_type": "t3.micro", "count": HOSTS, "user_data": user_data,
            "subnet_id": subnet["subnet_id"],
        });
        let launched = self.client.post("/v1/instances", &body).await?;
        let ids: Vec<String> = launched["instances"]
            .as_array()
            .map(|all| all.iter().map(|one| text_at(one, "instance_id")).collect())
            .unwrap_or_default();
        let mut instances = Vec::new();
        let mut addresses = Vec::new();
        for id in &ids {
            let patience = Duration::from_secs(SCENE_S_MAX);
            let instance = self.client.instance_until(id, "running", patience).await?;
            let ip = text_at(&instance, "private_ip").parse();
            let ip =
                ip.map_err(|_| failed(format!("{id} does not run: {}", tables::why(&instance))))?;
            addresses.push(SocketAddr::new(ip, PORT));
            instances.push(instance);
        }
        let table = tables::instances(self.screen, &instances);
        self.screen.line(table);
        for (id, address) in ids.iter().zip(&addresses) {
            let text = answer(*address).await?;
            if !text.contains(id.as_str()) {
                return Err(failed(format!(
                    "another program of this machine, such as a second demonstration, answers at \
                     http://{address}/: {text}"
                )));
            }
            self.screen.line(format!("http://{address}/ says: {text}"));
        }
        Ok((ids, addresses))
    }

    /// Nobody notices, and they find what runs.
    async fn kill_the_agents(&mut self, addresses: &[SocketAddr]) -> Result<(), Problem> {
        self.title("kill -9 all agents, and start them again");
        let mut before = Vec::new();
        for address in addresses {
            before.push(answer(*address).await?);
        }
        for index in 0..HOSTS {
            self.agents[index].kill().await.map_err(failed)?;
            self.agents[index] = self.start_agent(index)?;
        }
        self.are_ready().await?;
        for (address, before) in addresses.iter().zip(&before) {
            let after = answer(*address).await?;
            if process(before) != process(&after) {
                return Err(failed(format!("{address} was started anew: {before}; {after}")));
            }
        }
        let same = self.screen.ink(Ink::Green, "the same processes answer");
        self.screen.line(same);
        Ok(())
    }

    /// The instances need nothing of it.
    async fn take_the_plane_away(&mut self, addresses: &[SocketAddr]) -> Result<(), Problem> {
        self.title("The whole control plane is gone: API, bus, store and every step");
        if let Some(plane) = self.plane.take() {
            plane.shutdown().await;
        }
        if self.client.get("/health").await.is_ok() {
            return Err(failed("the control plane still answers"));
        }
        let mut answered = 0;
        for request in 0..REQUESTS {
            answered += usize::from(ask(addresses[request % HOSTS]).await.is_some());
        }
        let line =
            format!("{answered} of {REQUESTS} requests to the instances were answered meanwhile");
        if answered != REQUESTS {
            return Err(failed(line));
        }
        let line = self.screen.ink(Ink::Green, line);
        self.screen.line(line);
        self.plane = Some(start_plane(&self.dir, self.address).await?);
        self.screen.line("it is back, and knows them still");
        Ok(())
    }

    /// Its host starts it again.
    async fn crash_a_program(&mut self, address: SocketAddr) -> Result<(), Problem> {
        self.title("A program crashes");
        let before = answer(address).await?;
        let killed = Command::new("kill").args(["-9", process(&before)]).status().await;
        if !killed.map_err(failed)?.success() {
            return Err(failed(format!("{before}: it cannot be killed")));
        }
        let mut after = None;
        in_time(async || {
            after = ask(address).await.filter(|text| process(text) != process(&before));
            after.is_some()
        })
        .await;
        let after = after.ok_or_else(|| failed(format!("{address} did not come back")))?;
        self.screen.line(format!("its agent has started it again: {after}"));
        Ok(())
    }

    async fn the_end(&mut self, ids: &[String]) -> Result<(), Problem> {
        self.title("terminate all");
        let wait = Wait { wait: true, timeout_s: SCENE_S_MAX };
        lifecycle::change(&self.client, self.screen, Change::Terminate, ids, Some(&wait)).await?;
        let ledger: Value = self.client.get("/v1/ledger").await?;
        if ledger["balances"] != true {
            return Err(failed(format!("not all was given back: {ledger}")));
        }
        let nothing = self.screen.ink(Ink::Green, "nothing runs, and nothing is held");
        self.screen.line(nothing);
        Ok(())
    }

    /// Whatever happened: no process is left.
    async fn clear(mut self) {
        for agent in &mut self.agents {
            let _ = agent.kill().await;
        }
        if let Some(plane) = self.plane.take() {
            plane.shutdown().await;
        }
        for run in runs(&self.dir) {
            let _ = Command::new("kill").arg(run.to_string()).status().await;
        }
    }

    fn next_lines(&mut self, ids: &[String]) {
        let command = std::env::args().next().unwrap_or_else(|| "eventplane".to_owned());
        let lines = ["list", "hosts", &format!("console {}", ids[0]), &format!("stop {}", ids[0])]
            .map(|line| format!("  {command} {line}"))
            .join("\n");
        let title = "It stays up until Ctrl-C, which ends all of it. In another terminal:";
        let title = self.screen.ink(Ink::Bold, title);
        let address = self.address;
        self.screen
            .line(format!("\n{title}\n  export EVENTPLANE_ENDPOINT=http://{address}\n{lines}"));
    }
}

/// The keepers of instances that an agent's end has left.
fn runs(dir: &Path) -> Vec<i64> {
    let mut runs = Vec::new();
    for host in 0..HOSTS {
        let instances = dir.join(format!("host-{host}/instances/default"));
        for instance in fs::read_dir(instances).into_iter().flatten().flatten() {
            let run = fs::read(instance.path().join("run.json")).unwrap_or_default();
            let run: Value = serde_json::from_slice(&run).unwrap_or_default();
            runs.extend(run["pid"].as_i64());
        }
    }
    runs
}
