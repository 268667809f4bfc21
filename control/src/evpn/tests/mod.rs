mod frr;
mod joined;
mod lab;
mod model;
mod traps;
mod vectors;
