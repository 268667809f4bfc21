mod batching;
mod fabric;
mod fixture;
mod frr;
mod model;
mod traps;
mod vectors;
