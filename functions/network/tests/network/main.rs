//! The network step as its neighbours meet it: what it decides, and what it leaves in a store.

mod blocks;
mod decide;
mod launches;
mod manage;
mod world;
