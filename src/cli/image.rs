//! `cove image`: the images that VMs boot from.

use crate::wire::rpc::{Image, ImageList};

use super::connect::list_all;
use super::failure::Failure;
use super::output::{Format, size, table};

/// The commands of `cove image`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List images
    List {
        #[command(flatten)]
        format: Format,
    },
}

impl Command {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        match self {
            Self::List { format } => list_all::<ImageList, _>(format, render).await,
        }
    }
}

fn render(images: &[Image]) -> String {
    let row = |image: &Image| {
        [
            image.name.to_string(),
            image.digest.as_str()[..12].to_owned(),
            size(image.bytes),
            image.description.clone(),
        ]
    };
    table(["NAME", "DIGEST", "SIZE", "DESCRIPTION"], images.iter().map(row))
}
