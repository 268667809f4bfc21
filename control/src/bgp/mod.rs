//! BGP: messages and sessions as pure machines. Octets and time come in as arguments, actions go out as values;
//! nothing here knows a socket, a clock, or what an EVPN route means.

pub mod wire;
