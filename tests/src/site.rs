//! A plane in this process, and the requests of its users.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use eventplane_agent::FleetOptions;
use eventplane_engine::{Handler, Ports, SystemClock};
use eventplane_keys::MasterKey;
use eventplane_local::bus::BusOptions;
use eventplane_plane::{Plane, PlaneOptions};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tower::ServiceExt;

/// How often a state is waited for, each time as long as the api allows.
const WAITS_MAX: usize = 3;

/// A plane, and how a user talks to it.
pub struct Site {
    /// The plane.
    pub plane: Plane,
}

/// Options of a plane for tests: hosts that start at once.
#[must_use]
pub fn options(hosts: usize) -> PlaneOptions {
    let fleet =
        FleetOptions { hosts, start_ms: (0, 1), poll_gap_ms: 1, ..PlaneOptions::default().fleet };
    PlaneOptions { fleet, ..PlaneOptions::default() }
}

impl Site {
    /// A plane in memory with so many hosts, all registered.
    pub async fn with_hosts(hosts: usize) -> Site {
        Site::start(options(hosts)).await
    }

    /// The same, with a bus that delivers so.
    pub async fn with_bus(hosts: usize, bus: BusOptions) -> Site {
        Site::start(PlaneOptions { bus, ..options(hosts) }).await
    }

    /// The same, with its memory in `dir`.
    pub async fn in_dir(hosts: usize, dir: &Path) -> Site {
        Site::start(PlaneOptions { data_dir: Some(dir.to_owned()), ..options(hosts) }).await
    }

    /// A plane with these options.
    ///
    /// # Panics
    /// When it does not start, or its hosts do not register.
    pub async fn start(options: PlaneOptions) -> Site {
        Site::of(Plane::start(options).await.expect("the plane starts")).await
    }

    /// The same with functions of the test's making, as [`Plane::start_with`] has them.
    ///
    /// # Panics
    /// As [`Site::start`].
    pub async fn start_with(
        options: PlaneOptions,
        functions: impl FnOnce(&Ports, &Arc<dyn MasterKey>) -> Vec<Arc<dyn Handler>>,
    ) -> Site {
        let clock = Arc::new(SystemClock);
        let plane = Plane::start_with(options, clock, functions).await;
        Site::of(plane.expect("the plane starts")).await
    }

    async fn of(plane: Plane) -> Site {
        let patience = std::time::Duration::from_secs(60);
        assert!(plane.fleet().registered(patience).await, "all hosts register");
        Site { plane }
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When the answer is not JSON.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .expect("a request");
        let Ok(response) = self.plane.router().oneshot(request).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let value = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).expect("JSON"),
        };
        (status, value)
    }

    /// What is at this path.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn get(&self, path: &str) -> Value {
        let (status, value) = self.send(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    /// Launches one instance; its id.
    ///
    /// # Panics
    /// When it is refused at once.
    pub async fn launch(&self, asked: Value) -> String {
        let (status, value) = self.send(Method::POST, "/v1/instances", Some(asked)).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{value}");
        value["instances"][0]["instance_id"].as_str().expect("an id").to_owned()
    }

    /// Launches one `t3.micro`; its id.
    pub async fn launch_micro(&self) -> String {
        self.launch(json!({ "instance_type": "t3.micro" })).await
    }

    /// Terminates an instance.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn terminate(&self, id: &str) {
        let (status, value) = self.send(Method::DELETE, &format!("/v1/instances/{id}"), None).await;
        assert_eq!(status, StatusCode::OK, "{value}");
    }

    /// Asks something of an instance, such as `stop`; the states before and now.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn ask(&self, id: &str, verb: &str) -> (String, String) {
        let path = format!("/v1/instances/{id}/{verb}");
        let (status, value) = self.send(Method::POST, &path, None).await;
        assert_eq!(status, StatusCode::OK, "{verb}: {value}");
        let state = |name: &str| value[name].as_str().expect("a state").to_owned();
        (state("previous_state"), state("current_state"))
    }

    /// The instance once this generation of it is in `state`.
    ///
    /// # Panics
    /// When it never is, with its timeline.
    pub async fn until_generation(&self, id: &str, generation: u32, state: &str) -> Value {
        for _ in 0..WAITS_MAX * 1_000 {
            let shown = self.get(&format!("/v1/instances/{id}")).await;
            if shown["state"] == state && shown["generation"] == generation {
                return shown;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let events = self.get(&format!("/v1/instances/{id}/events")).await;
        panic!("generation {generation} of {id} is not {state}: {events:#}");
    }

    /// The instance once it is in `state`.
    ///
    /// # Panics
    /// When it never is, with its timeline.
    pub async fn until(&self, id: &str, state: &str) -> Value {
        let path = format!("/v1/instances/{id}?until={state}&wait=30");
        for _ in 0..WAITS_MAX {
            let shown = self.get(&path).await;
            if shown["state"] == state && (state != "terminated" || shown["ended_at"].is_string()) {
                return shown;
            }
            if shown["state"] == "terminated" {
                break;
            }
        }
        let events = self.get(&format!("/v1/instances/{id}/events")).await;
        let letters = self.get("/v1/dead-letters").await;
        panic!("{id} is not {state}: {events:#}\n{letters:#}");
    }
}
