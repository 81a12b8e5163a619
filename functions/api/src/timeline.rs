//! What happened to an instance, and when: derived from its record and the steps' receipts, and
//! stored nowhere a second time.

use crate::Shared;
use crate::answer::rfc3339;
use crate::error::Refusal;
use crate::extract::{Caller, Path};
use crate::view::{HOLDERS, Whole, instance_id, read};
use axum::Json;
use eventplane_domain::Millis;
use eventplane_instances::Want;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(events))
}

/// One line of the timeline.
struct Line {
    at: Millis,
    step: &'static str,
    what: &'static str,
    generation: u32,
    reason: Option<String>,
}

fn lines(whole: &Whole) -> Vec<Line> {
    let record = &whole.record;
    let newest = record.progress.generation;
    let mut lines = vec![Line {
        at: record.created,
        step: "api",
        what: "requested",
        generation: 1,
        reason: None,
    }];
    let of_record = |at: Option<Millis>, what: &'static str, reason: Option<String>| {
        at.map(|at| Line { at, step: "instances", what, generation: newest, reason })
    };
    let asked = whole.request.as_ref().and_then(|request| request.asked.as_ref());
    lines.extend(asked.map(|asked| Line {
        at: asked.at,
        step: "api",
        what: match asked.wants {
            Want::Running => "start requested",
            Want::Rebooted => "reboot requested",
            Want::Stopped => "stop requested",
            Want::Terminated => "termination requested",
        },
        generation: asked.generation,
        reason: Some(asked.reason.to_string()),
    }));
    for (step, receipt) in HOLDERS.iter().zip(&whole.receipts) {
        let Some(receipt) = receipt else { continue };
        let last = receipt.log.len().saturating_sub(1);
        lines.extend(receipt.log.iter().enumerate().map(|(index, logged)| {
            let why = receipt.reason.as_ref().filter(|_| index == last);
            Line {
                at: logged.at,
                step: step.name(),
                what: logged.what.name(),
                generation: logged.generation,
                reason: why.map(ToString::to_string),
            }
        }));
    }
    if let Some(handoff) = &whole.handoff {
        let last = handoff.log.len().saturating_sub(1);
        lines.extend(handoff.log.iter().enumerate().map(|(index, logged)| {
            let why = handoff.ending.as_ref().filter(|_| index == last);
            Line {
                at: logged.at,
                step: "handoff",
                what: logged.what.name(),
                generation: logged.generation,
                reason: why.map(|ending| ending.reason.to_string()),
            }
        }));
    }
    lines.extend(of_record(record.running_at, "running", None));
    let reason = record.reason.as_ref().map(ToString::to_string);
    lines.extend(of_record(record.ended_at, "terminated", reason));
    lines.sort_by_key(|line| line.at);
    lines
}

/// The timeline of an instance. `after_ms` counts from the request.
#[utoipa::path(get, path = "/v1/instances/{instance_id}/events", tag = "instances",
    params(("instance_id" = String, Path)),
    responses((status = 200, description = "What happened, oldest first")))]
async fn events(Caller(api): Caller, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let id = instance_id(&id)?;
    let whole = read(&*api.ports.store, &api.options.tenant, &id).await?;
    let created = whole.record.created;
    let shown: Vec<Value> = lines(&whole)
        .iter()
        .map(|line| {
            let mut shown = json!({
                "at": rfc3339(line.at.0),
                "after_ms": line.at.since(created),
                "step": line.step,
                "what": line.what,
                "generation": line.generation,
            });
            if let Some(reason) = &line.reason {
                shown["reason"] = json!(reason);
            }
            shown
        })
        .collect();
    let state = whole.state();
    Ok(Json(json!({ "instance_id": id, "state": state, "events": shown })))
}
