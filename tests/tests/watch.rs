//! `infra/watch.yaml`: alarms with their runbooks, and a dashboard that is JSON.

use eventplane_local::wiring::template;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

const WATCH: &str = include_str!("../../infra/watch.yaml");
const PLANE: &str = include_str!("../../template.yaml");

/// What a runbook says, in this order.
const PARTS: [&str; 3] = ["**What it means.**", "**What to look at.**", "**What to do.**"];

fn resources(yaml: &str) -> Vec<(String, Value)> {
    let template = template::read(yaml).expect("readable");
    let resources = template["Resources"].as_object().expect("a map of resources").clone();
    resources.into_iter().collect()
}

#[test]
fn every_alarm_leads_to_a_runbook_and_every_runbook_is_an_alarms() {
    let folder = xtask::workspace().join("infra/runbooks");
    let files = fs::read_dir(&folder).expect("infra/runbooks is there");
    let mut pages: BTreeSet<String> = files
        .map(|file| file.expect("readable").file_name().into_string().expect("text"))
        .collect();
    let alarms = [WATCH, PLANE].into_iter().flat_map(resources);
    for (id, alarm) in alarms.filter(|(_, of)| of["Type"] == "AWS::CloudWatch::Alarm") {
        let alarm = &alarm["Properties"];
        let name = alarm["AlarmName"]["Fn::Sub"].as_str().expect("a name");
        let (_, name) = name.split_once("}-").expect("the plane's name stands before it");
        let page = format!("{name}.md");
        let about = alarm["AlarmDescription"].as_str().expect("a description");
        assert!(about.ends_with(&format!("Runbook infra/runbooks/{page}")), "{id}: {about}");
        let text = fs::read_to_string(folder.join(&page)).expect("its runbook is there");
        assert!(text.starts_with(&format!("# {name}\n")), "{page}");
        let at: Vec<Option<usize>> = PARTS.iter().map(|part| text.find(part)).collect();
        assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{page}: {PARTS:?}");
        assert!(pages.remove(&page), "{page}: of one alarm");
    }
    assert_eq!(pages, BTreeSet::new(), "pages of no alarm");
}

#[test]
fn the_plane_tells_the_watch_all_that_it_asks() {
    let watch = template::read(WATCH).expect("readable");
    let plane = template::read(PLANE).expect("readable");
    let names = |of: &Value| of.as_object().expect("a map").keys().cloned().collect::<Vec<_>>();
    let told = &plane["Resources"]["Watch"]["Properties"]["Parameters"];
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    assert_eq!(sorted(names(told)), sorted(names(&watch["Parameters"])));
}

/// An alarm that computes pays for each metric that it computes from.
#[test]
fn the_cost_at_rest_knows_every_metric_that_an_alarm_looks_at() {
    let alarms =
        resources(WATCH).into_iter().filter(|(_, of)| of["Type"] == "AWS::CloudWatch::Alarm");
    let metrics = |alarm: &Value| match alarm["Metrics"].as_array() {
        Some(metrics) => metrics.iter().filter(|of| of["MetricStat"].is_object()).count(),
        None => 1,
    };
    let metrics: usize = alarms.map(|(_, alarm)| metrics(&alarm["Properties"])).sum();
    assert_eq!(metrics as u64, eventplane_cost::ALARMS);
}

fn dashboard(yaml: &str) -> Value {
    let watch = template::read(yaml).expect("readable");
    let body = &watch["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"];
    serde_json::from_str(body.as_str().expect("a text")).expect("JSON")
}

#[test]
fn the_dashboard_is_json_whatever_the_planes_name_is() {
    assert_eq!(dashboard(WATCH)["widgets"].as_array().map(Vec::len), Some(6));
}

/// The plane's own metrics that the dashboard does not show.
fn not_shown(yaml: &str) -> Vec<&'static str> {
    let body = dashboard(yaml);
    let widgets = body["widgets"].as_array().expect("widgets");
    let metrics = widgets.iter().flat_map(|of| of["properties"]["metrics"].as_array());
    let metrics: Vec<&Value> = metrics.flatten().collect();
    let shows = |name: &str| {
        let start = ["Eventplane", name, "Stack", "${Plane}"];
        metrics.iter().any(|metric| (0..start.len()).all(|at| metric[at] == start[at]))
    };
    let own = ["LaunchDuration", "SweeperRescues", "HostsImpaired", "MessagesFailed"];
    own.into_iter().filter(|name| !shows(name)).collect()
}

#[test]
fn the_dashboard_shows_what_the_plane_says_of_itself() {
    assert_eq!(not_shown(WATCH), [""; 0]);
    let of_another =
        WATCH.replace("\"MessagesFailed\", \"Stack\"", "\"MessagesFailed\", \"Plane\"");
    assert_eq!(not_shown(&of_another), ["MessagesFailed"]);
}
