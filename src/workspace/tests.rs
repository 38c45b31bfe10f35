//! Real repositories, packed, unpacked with the system's tar, and compared with what they came from.

mod bench;
mod fixture;
mod hostile;
mod shapes;
mod sources;
