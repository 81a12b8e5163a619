//! `agent --host-config`: the agent of the machine that it runs on.

use crate::args::{Agent as Asked, Reach};
use crate::client::Client;
use crate::problem::Problem;
use crate::serve::{Ending, failed};
use crate::show::{Screen, text_at};
use eventplane_agent::config::HostConfig;
use eventplane_agent::{Agent, AgentError, DataDir, Http, Identity, RealDisk, measure};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the plane may take to know the host before it is said that it does not.
const KNOWN: Duration = Duration::from_secs(10);

fn input(error: impl ToString) -> Problem {
    Problem::Input(error.to_string())
}

/// The agent of this machine, until it is told to end. What it runs runs on.
pub(crate) async fn agent(
    config: &Path,
    asked: &Asked,
    reach: &Reach,
    screen: &mut Screen,
) -> Result<(), Problem> {
    let mut ending = Ending::listen()?;
    let config = HostConfig::open(config).map_err(input)?;
    let measured = measure::measure(Path::new("/"), &config).map_err(input)?;
    for note in &measured.notes {
        screen.aside(format!("note: {note}"));
    }
    let data_dir = DataDir::open(&config.data_dir).map_err(failed)?;
    let identity = Arc::new(identity(&config, &data_dir, asked, reach).await?);
    let plain = Http::new(&reach.endpoint).map_err(input)?;
    identity.enrol(&plain).await.map_err(failed)?;
    let endpoint = plain.endpoint().to_owned();
    let (host_id, driver) = (config.host_id.clone(), config.driver.name());
    let agent = Agent {
        config,
        registration: measured.registration,
        identity,
        http: plain,
        keeper: ["/proc/self/exe", "run-instance"].map(str::to_owned).to_vec(),
        data_dir,
    };
    let (known, mut is_known) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let mut running = tokio::spawn(agent.run(known, stopped));
    tokio::select! {
        ended = &mut running => return Err(over(ended)),
        () = ending.told() => {}
        () = async {
            while tokio::time::timeout(KNOWN, is_known.wait_for(|known| *known > 0)).await.is_err() {
                screen.aside(format!("{host_id} is not known yet at {endpoint}"));
            }
            screen.line(format!("ready: {host_id} at {endpoint}, driver {driver}"));
            std::future::pending::<()>().await;
        } => {}
    }
    let _ = stop.send(true);
    match running.await {
        Ok(Ok(())) => Ok(()),
        ended => Err(over(ended)),
    }
}

/// Why the agent has ended although nobody told it to.
fn over(ended: Result<Result<(), AgentError>, tokio::task::JoinError>) -> Problem {
    match ended {
        Ok(Ok(())) => failed("the agent ended without a reason"),
        Ok(Err(error)) => failed(error),
        Err(bug) => failed(bug),
    }
}

/// Who the host is: as it was enrolled before, or with a token that was given, or with one that
/// whoever runs this may ask for.
async fn identity(
    config: &HostConfig,
    data_dir: &DataDir,
    asked: &Asked,
    reach: &Reach,
) -> Result<Identity, Problem> {
    let (disk, host_id) = (Arc::new(RealDisk), &config.host_id);
    if let Some(token) = &asked.enrol_token {
        return Identity::with_token(disk, data_dir.path(), host_id, token.trim()).map_err(input);
    }
    if let Some(identity) = Identity::open(disk.clone(), data_dir.path(), host_id).map_err(input)? {
        return Ok(identity);
    }
    // As itself the host is nobody yet: whoever runs this may be an operator of the plane.
    let client = Client::reach(reach).await?;
    let enrolled = client.post("/v1/enrolments", &json!({ "host_id": host_id })).await?;
    let token = text_at(&enrolled, "token");
    Identity::with_token(disk, data_dir.path(), host_id, &token).map_err(input)
}
