//! The network step on Lambda.

use eventplane_aws::{Error, World, serve};
use eventplane_engine::Function;
use eventplane_network::{Networking, TABLE};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let world = World::connect(&[TABLE])?;
    serve(&world, Function::new(Networking, world.ports.clone())).await
}
