//! `hello`: what the instances of the demonstration run.

use crate::problem::Problem;
use crate::serve::failed;
use crate::show::Screen;
use axum::Router;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The variables that say who the instance is.
const WHO: [&str; 4] =
    ["EVENTPLANE_INSTANCE_ID", "EVENTPLANE_HOST", "EVENTPLANE_ZONE", "EVENTPLANE_GENERATION"];

/// Answers every request with who this instance is and which process answers, until it is killed.
pub(crate) async fn hello(listen: SocketAddr, screen: &mut Screen) -> Result<(), Problem> {
    let listener = TcpListener::bind(listen).await;
    let listener = listener.map_err(|error| failed(format!("{listen}: {error}")))?;
    let who =
        WHO.map(|name| std::env::var_os(name).unwrap_or_default().to_string_lossy().into_owned());
    let pid = std::process::id();
    let text = format!(
        "hello from {} on {} in {}, run {}, process {pid}\n",
        who[0], who[1], who[2], who[3]
    );
    screen.line(format!("listening on {listen}"));
    let router = Router::new().fallback(async move || text.clone());
    axum::serve(listener, router).await.map_err(failed)
}
