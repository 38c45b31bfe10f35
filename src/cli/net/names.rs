//! `cove net names`: how this host finds the names of VMs.

use crate::config::{Config, machine_id};
use crate::net::bridge::Setup;
use crate::net::recipe_for_names;
use crate::report::{Kind, Report};
use crate::wire::rpc::{ConfigShow, Nothing};

use super::super::connect::connect;
use super::super::failure::Failure;
use super::super::output::print;

/// Arguments of `cove net names`.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Arguments {}

impl Arguments {
    pub(in super::super) async fn run(self) -> Result<u8, Failure> {
        let config = connect().await?.call::<ConfigShow>(Nothing {}).await?;
        let config: Config = serde_json::from_value(config).map_err(|error| {
            let message = "the daemon's configuration cannot be read";
            Failure::from(Report::new(Kind::Failed, message).with_cause(&error))
        })?;
        let user = nix::unistd::geteuid().as_raw();
        let setup = Setup::new(&config.net.bridge, &machine_id(), user);
        let setup = setup.map_err(|error| Failure::from(Report::of(&error)))?;
        print(&recipe_for_names(&setup, &config.net.zone))?;
        Ok(0)
    }
}
