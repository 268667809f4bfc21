mod batching;
mod fabric;
mod fixture;
mod frr;
mod interop;
mod model;
mod vectors;
