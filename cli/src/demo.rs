//! `demo`: a whole control plane at work, from its first launch to nothing held. Every scene says
//! what has to happen, and the demonstration fails if it does not.

use crate::args::Wait;
use crate::client::Client;
use crate::problem::Problem;
use crate::serve::Ending;
use crate::show::{Ink, Screen, text_at};
use crate::{tables, verbs, waterfall};
use eventplane_plane::{Plane, PlaneOptions};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long each scene may take, in seconds.
const SCENE_S_MAX: u64 = 30;
/// How often a live picture is drawn anew.
const FRAME: Duration = Duration::from_millis(40);
/// How long the broken step is watched before it is mended: long enough for two deliveries.
const BROKEN: Duration = Duration::from_millis(1_200);
/// The step that is broken on purpose.
const BROKEN_STEP: &str = "network";

fn failed(what: impl Into<String>) -> Problem {
    Problem::Failed(what.into())
}

/// The plane of the demonstration, and whoever watches.
struct Stage<'a> {
    plane: &'a Plane,
    client: Client,
    screen: &'a mut Screen,
    /// All that was launched and is to be terminated.
    launched: Vec<String>,
}

/// Plays all scenes; stays up afterwards unless it is to `exit`.
pub(crate) async fn demo(exit: bool, screen: &mut Screen) -> Result<(), Problem> {
    let mut ending = Ending::listen()?;
    let dir = tempfile::Builder::new()
        .prefix("eventplane-demo-")
        .tempdir()
        .map_err(|error| failed(format!("no temporary directory: {error}")))?;
    let options = PlaneOptions { data_dir: Some(dir.path().to_owned()), ..Default::default() };
    let plane = Plane::start(options).await.map_err(|error| failed(error.to_string()))?;
    let client = Client::new(&format!("http://{}", plane.address()))?;
    let mut stage = Stage { plane: &plane, client, screen, launched: Vec::new() };
    let played = tokio::select! {
        played = stage.play(dir.path()) => played,
        () = ending.told() => Err(failed("ended before all was shown")),
    };
    if played.is_ok() && !exit {
        next_lines(screen, &plane);
        ending.told().await;
    }
    plane.shutdown().await;
    played
}

impl Stage<'_> {
    async fn play(&mut self, dir: &std::path::Path) -> Result<(), Problem> {
        self.raise(dir).await?;
        self.one_launch().await?;
        self.several_launches().await?;
        self.a_broken_step().await?;
        self.one_that_cannot_fit().await?;
        self.the_end().await
    }

    fn title(&mut self, text: &str) {
        let text = self.screen.ink(Ink::Bold, text);
        self.screen.line(format!("\n{text}"));
    }

    async fn raise(&mut self, dir: &std::path::Path) -> Result<(), Problem> {
        if !self.plane.fleet().registered(Duration::from_secs(SCENE_S_MAX)).await {
            return Err(failed("the hosts did not introduce themselves"));
        }
        let capacity = self.client.get("/v1/capacity").await?;
        self.title("A control plane with 12 hosts in 3 zones");
        let endpoint = self.client.endpoint().to_owned();
        self.screen.line(format!("listening at {endpoint}, kept in {}", dir.display()));
        let table = tables::capacity(self.screen, &capacity);
        self.screen.line(table);
        let hosts: u64 = zones(&capacity).iter().filter_map(|zone| zone["active"].as_u64()).sum();
        if hosts != 12 || zones(&capacity).len() != 3 {
            return Err(failed(format!("there are {hosts} hosts, not 12 in 3 zones")));
        }
        Ok(())
    }

    /// Launches over HTTP, and says which instances there are now.
    async fn launch(&mut self, body: &Value) -> Result<Vec<String>, Problem> {
        let answer = self.client.post("/v1/instances", body).await?;
        let instances = answer["instances"].as_array().cloned().unwrap_or_default();
        let ids: Vec<String> = instances.iter().map(|one| text_at(one, "instance_id")).collect();
        if ids.is_empty() {
            return Err(failed(format!("a launch was answered without instances: {answer}")));
        }
        self.launched.extend(ids.clone());
        Ok(ids)
    }

    /// Draws an instance's waterfall until it is in the state `until`, and checks that it is.
    async fn watch(&mut self, id: &str, until: &str) -> Result<Value, Problem> {
        let end = Instant::now() + Duration::from_secs(SCENE_S_MAX);
        loop {
            let instance = self.client.get(&format!("/v1/instances/{id}")).await?;
            self.draw(id).await?;
            let state = text_at(&instance, "state");
            if state == until {
                self.screen.keep();
                return Ok(instance);
            }
            if state == "terminated" || Instant::now() >= end {
                let why = tables::why(&instance);
                return Err(failed(format!("{id} is {state}, not {until}: {why}")));
            }
            sleep(FRAME).await;
        }
    }

    async fn draw(&mut self, id: &str) -> Result<(), Problem> {
        let timeline = self.client.get(&format!("/v1/instances/{id}/events")).await?;
        let state = self.screen.state(&text_at(&timeline, "state"));
        let text = waterfall::text(self.screen, &timeline);
        self.screen.draw(&format!("{} {state}\n{text}", self.screen.ink(Ink::Bold, id)));
        Ok(())
    }

    async fn one_launch(&mut self) -> Result<(), Problem> {
        self.title("One launch: POST /v1/instances {\"instance_type\": \"t3.micro\"}");
        let ids = self.launch(&json!({ "instance_type": "t3.micro" })).await?;
        self.watch(&ids[0], "running").await?;
        Ok(())
    }

    async fn several_launches(&mut self) -> Result<(), Problem> {
        self.title("Six more, with a data volume each");
        let volumes = json!([{ "size_gib": 20 }]);
        let body = json!({
            "instance_type": "m5.large", "count": 6, "volumes": volumes, "tags": {"made-by": "demo"},
        });
        let ids = self.launch(&body).await?;
        let instances = self.all(&ids, "running").await?;
        let table = tables::instances(self.screen, &instances);
        self.screen.line(table);
        Ok(())
    }

    /// All of these once they are in the state `until`.
    async fn all(&mut self, ids: &[String], until: &'static str) -> Result<Vec<Value>, Problem> {
        let mut instances: Vec<Value> = ids.iter().map(|id| json!({ "instance_id": id })).collect();
        let wait = Wait { wait: true, timeout_s: SCENE_S_MAX };
        verbs::until(&self.client, self.screen, &mut instances, until, &wait).await?;
        Ok(instances)
    }

    async fn a_broken_step(&mut self) -> Result<(), Problem> {
        self.title(&format!("A broken step: every delivery to `{BROKEN_STEP}` fails from now on"));
        let bus = self.plane.bus().clone();
        if !bus.break_function(BROKEN_STEP, "broken on purpose by the demonstration") {
            return Err(failed(format!("there is no function `{BROKEN_STEP}` to break")));
        }
        let watched = self.while_broken().await;
        bus.mend(BROKEN_STEP);
        let id = watched?;
        self.screen.line(format!("`{BROKEN_STEP}` is mended:"));
        // Had it been broken for longer, its messages would be dead letters by now.
        self.client.post("/v1/dead-letters/redrive", &json!({})).await?;
        self.watch(&id, "running").await?;
        Ok(())
    }

    async fn while_broken(&mut self) -> Result<String, Problem> {
        let ids = self.launch(&json!({ "instance_type": "t3.small" })).await?;
        let end = Instant::now() + BROKEN;
        while Instant::now() < end {
            self.draw(&ids[0]).await?;
            sleep(FRAME).await;
        }
        self.screen.keep();
        let instance = self.client.get(&format!("/v1/instances/{}", ids[0])).await?;
        let awaits = instance["pending"]["awaits"].as_array().cloned().unwrap_or_default();
        if awaits != [json!(BROKEN_STEP)] {
            let found = format!("{} and waits for {awaits:?}", text_at(&instance, "state"));
            return Err(failed(format!("{} is {found}, not for {BROKEN_STEP} alone", ids[0])));
        }
        self.screen.line(format!(
            "pending: it {}; the other steps took no notice",
            tables::why(&instance)
        ));
        Ok(ids[0].clone())
    }

    async fn one_that_cannot_fit(&mut self) -> Result<(), Problem> {
        self.title("One that cannot fit: a p4d.24xlarge, with GPUs that no host has");
        let ids = self.launch(&json!({ "instance_type": "p4d.24xlarge" })).await?;
        let instance = self.watch(&ids[0], "terminated").await?;
        let code = text_at(&instance, "state_reason/code");
        let why = self.screen.wrapped(&format!("why: {}", tables::why(&instance)), 5);
        self.screen.line(self.screen.ink(Ink::Red, why));
        if code != "Server.InsufficientInstanceCapacity" {
            return Err(failed(format!("it was refused as {code}, not for want of capacity")));
        }
        Ok(())
    }

    async fn the_end(&mut self) -> Result<(), Problem> {
        self.title("The end: terminate all of them");
        let ids = std::mem::take(&mut self.launched);
        for id in &ids {
            self.client.delete(&format!("/v1/instances/{id}")).await?;
        }
        let instances = self.all(&ids, "terminated").await?;
        let table = tables::instances(self.screen, &instances);
        self.screen.line(table);
        let capacity = self.client.get("/v1/capacity").await?;
        self.title("What is held");
        let table = tables::capacity(self.screen, &capacity);
        self.screen.line(table);
        let held = held(&capacity);
        if !held.is_empty() {
            return Err(failed(format!("still held: {}", held.join(", "))));
        }
        let nothing = self.screen.ink(Ink::Green, "nothing: all that there is is free");
        self.screen.line(nothing);
        Ok(())
    }
}

fn zones(capacity: &Value) -> &[Value] {
    capacity["zones"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What is not free, in words. An answer that cannot be read counts as held.
fn held(capacity: &Value) -> Vec<String> {
    let mut held = Vec::new();
    let mut compare = |what: String, free: &Value, total: &Value| {
        if free != total || !total.is_number() {
            held.push(format!("{what} ({free} of {total} free)"));
        }
    };
    for zone in zones(capacity) {
        for what in ["vcpus", "memory_mib", "network_mbps", "gpus"] {
            let name = format!("{} {what}", text_at(zone, "zone"));
            compare(name, &zone["free"][what], &zone["total"][what]);
        }
    }
    for pool in capacity["pools"].as_array().map(Vec::as_slice).unwrap_or_default() {
        for what in ["gib", "iops"] {
            let name = format!("{} {} {what}", text_at(pool, "zone"), text_at(pool, "volume_type"));
            compare(name, &pool[format!("free_{what}")], &pool[format!("total_{what}")]);
        }
    }
    held
}

fn next_lines(screen: &mut Screen, plane: &Plane) {
    let endpoint = format!("http://{}", plane.address());
    let addresses = [
        ("the API", String::new()),
        ("its description", "/openapi.json".to_owned()),
        ("whether it answers", "/health".to_owned()),
        ("instances", "/v1/instances".to_owned()),
        ("hosts", "/v1/hosts".to_owned()),
        ("room", "/v1/capacity".to_owned()),
    ];
    let row = |(what, path): &(&str, String)| vec![(*what).to_owned(), format!("{endpoint}{path}")];
    let addresses = screen.table(&["WHAT", "ADDRESS"], addresses.iter().map(row).collect());
    let command = std::env::args().next().unwrap_or_else(|| "eventplane".to_owned());
    let lines = ["launch t3.micro --wait", "list", "events ID", "hosts", "capacity"]
        .map(|line| format!("  {command} {line}"));
    let title = screen.ink(Ink::Bold, "It stays up until Ctrl-C. In another terminal:");
    let lines = lines.join("\n");
    screen.line(format!(
        "\n{addresses}\n\n{title}\n  export EVENTPLANE_ENDPOINT={endpoint}\n{lines}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_free_is_held() {
        let sizes =
            |vcpus: i64| json!({"vcpus": vcpus, "memory_mib": 2, "network_mbps": 3, "gpus": 0});
        let capacity = |free: i64, free_gib: i64| {
            json!({
                "zones": [{"zone": "a", "total": sizes(4), "free": sizes(free)}],
                "pools": [{"zone": "a", "volume_type": "gp3", "total_gib": 9, "free_gib": free_gib,
                    "total_iops": 1, "free_iops": 1}],
            })
        };
        assert_eq!(held(&capacity(4, 9)), Vec::<String>::new());
        assert_eq!(held(&capacity(3, 9)), ["a vcpus (3 of 4 free)"]);
        assert_eq!(held(&capacity(4, 8)), ["a gp3 gib (8 of 9 free)"]);
        assert_eq!(held(&json!({"zones": [{"zone": "a"}]})).len(), 4, "not to be read: held");
    }
}
