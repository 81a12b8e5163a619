//! What users do with instances that there are: start, stop, reboot, terminate, protect.

use crate::args::Wait;
use crate::client::Client;
use crate::problem::Problem;
use crate::show::{Screen, text_at};
use crate::tables;
use crate::verbs::{instance_path, until};
use serde_json::{Value, json};

/// What becomes of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Start,
    Stop,
    Reboot,
    Terminate,
}

impl Change {
    /// The state in which it is done; a reboot shows in none.
    fn ends_in(self) -> &'static str {
        match self {
            Change::Start | Change::Reboot => "running",
            Change::Stop => "stopped",
            Change::Terminate => "terminated",
        }
    }

    async fn ask(self, client: &Client, id: &str) -> Result<Value, Problem> {
        let path = instance_path(id)?;
        let verb = match self {
            Change::Start => "start",
            Change::Stop => "stop",
            Change::Reboot => "reboot",
            Change::Terminate => return client.delete(&path).await,
        };
        client.post(&format!("{path}/{verb}"), &json!({})).await
    }
}

/// Asks it of each instance; one that is refused keeps no other from its change.
pub(crate) async fn change(
    client: &Client,
    screen: &mut Screen,
    change: Change,
    ids: &[String],
    wait: Option<&Wait>,
) -> Result<(), Problem> {
    let mut changes = Vec::new();
    let mut refused = None;
    for id in ids {
        match change.ask(client, id).await {
            Ok(changed) => changes.push(changed),
            Err(problem @ Problem::Refused(_)) => {
                screen.aside(format!("{id}: {problem}"));
                refused.get_or_insert(problem);
            }
            Err(other) => return Err(other),
        }
    }
    if let Some(wait) = wait.filter(|wait| wait.wait) {
        let mut instances = changes.clone();
        let waited = until(client, screen, &mut instances, change.ends_in(), wait).await;
        for (change, instance) in changes.iter_mut().zip(&instances) {
            change["current_state"] = instance["state"].clone();
        }
        show_changes(screen, &changes);
        waited?;
    } else {
        show_changes(screen, &changes);
    }
    let failed = ids.len() - changes.len();
    match refused {
        None => Ok(()),
        Some(only) if ids.len() == 1 => Err(Problem::Shown(Box::new(only))),
        Some(_) => Err(Problem::Failed(format!("{failed} of {} were refused", ids.len()))),
    }
}

/// Protects an instance from termination, or no longer.
pub(crate) async fn protect(
    client: &Client,
    screen: &mut Screen,
    id: &str,
    off: bool,
) -> Result<(), Problem> {
    let asked = json!({ "termination_protection": !off });
    let instance = client.put(&instance_path(id)?, &asked).await?;
    screen.either(&instance, |screen| tables::whole(screen, &instance));
    Ok(())
}

fn show_changes(screen: &mut Screen, changes: &[Value]) {
    if changes.is_empty() {
        return;
    }
    screen.either(&json!({ "instances": changes }), |screen| {
        let row = |change: &Value| {
            vec![
                text_at(change, "instance_id"),
                text_at(change, "previous_state"),
                text_at(change, "current_state"),
            ]
        };
        screen.table(&["INSTANCE", "BEFORE", "NOW"], changes.iter().map(row).collect())
    });
}
