//! `avocadoctl unmerge`.

use clap::Args;

use super::{Context, merge};
use crate::access::MergeAction;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct UnmergeArgs {
    /// Unmount their images as well; otherwise merging them again is quicker
    #[arg(long)]
    pub(crate) unmount: bool,
}

pub(super) fn run(args: &UnmergeArgs, context: &Context) -> Result<(), Failure> {
    let unmount = args.unmount;
    merge::merge(context, MergeAction::Unmerge { unmount })
}
