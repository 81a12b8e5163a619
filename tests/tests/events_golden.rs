//! `events/` is what the types say: fresh, readable, and true to its own schemas.

use eventplane_events::{KINDS, read, samples};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

fn standing(path: &str) -> String {
    fs::read_to_string(xtask::events::folder().join(path))
        .unwrap_or_else(|error| panic!("events/{path}: {error}; run `cargo xtask events`"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&standing(path)).unwrap_or_else(|error| panic!("events/{path}: {error}"))
}

fn validator(name: &str) -> jsonschema::Validator {
    jsonschema::draft202012::new(&json(&format!("schemas/{name}.json")))
        .unwrap_or_else(|error| panic!("events/schemas/{name}.json is no schema: {error}"))
}

#[test]
fn the_files_are_what_the_types_say() {
    let fresh = xtask::events::files().expect("the files can be made");
    let standing = xtask::events::standing(&xtask::events::folder()).expect("the folder is read");
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&standing),
        names(&fresh),
        "files are missing or left over: run `cargo xtask events`"
    );
    for (name, text) in fresh {
        assert!(standing[&name] == text, "events/{name} is stale: run `cargo xtask events`");
    }
}

#[test]
fn every_sample_is_readable_and_comes_back_as_the_event_it_was_made_of() {
    for event in samples::all() {
        let name = event.data.name();
        let message = standing(&format!("samples/{name}.json"));
        let back =
            read(&message).unwrap_or_else(|error| panic!("events/samples/{name}.json: {error}"));
        assert_eq!(back, event);
    }
}

#[test]
fn every_sample_is_as_its_schema_says() {
    for kind in KINDS {
        let sample = json(&format!("samples/{}.json", kind.name));
        if let Err(error) = validator(kind.name).validate(&sample["detail"]) {
            panic!("events/samples/{}.json at {}: {error}", kind.name, error.instance_path());
        }
    }
}

#[test]
fn a_schema_refuses_what_is_not_its_event() {
    for kind in KINDS {
        let validator = validator(kind.name);
        let sample = json(&format!("samples/{}.json", kind.name))["detail"].take();
        for (pointer, wrong) in [
            ("/metadata/type", json!("InstanceVanished")),
            ("/metadata/source", json!("eventplane.nobody")),
            ("/metadata/schemaversion", json!("2.0")),
            ("/metadata/subject", json!("i-1")),
            ("/metadata/tenant", json!("@plane")),
            ("/metadata/hop", json!(-1)),
            ("/metadata", json!({})),
            ("/data", json!({})),
        ] {
            let mut other = sample.clone();
            *other.pointer_mut(pointer).expect("a sample has it") = wrong;
            assert!(!validator.is_valid(&other), "{} takes a wrong {pointer}", kind.name);
        }
    }
}

#[test]
fn a_schema_takes_fields_that_it_does_not_know() {
    for kind in KINDS {
        let mut sample = json(&format!("samples/{}.json", kind.name))["detail"].take();
        sample["metadata"]["colour"] = json!("blue");
        sample["data"]["colour"] = json!("blue");
        assert!(validator(kind.name).is_valid(&sample), "{}", kind.name);
    }
}
