mod frr;
mod joined;
mod lab;
mod model;
mod together;
mod traps;
mod vectors;
