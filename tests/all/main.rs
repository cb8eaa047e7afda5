//! All integration tests in one binary: linking tract's dependents once is slow enough.

mod architectures;
mod command;
mod first_light;
mod index;
mod index_command;
mod index_damage;
mod index_kill;
mod layers;
mod preprocess;
mod preprocess_damage;
mod space;
mod space_commands;
mod space_rows;
mod watch;
#[cfg(all(feature = "http", feature = "mqtt"))]
mod watch_mqtt;
#[cfg(feature = "http")]
mod watch_page;
