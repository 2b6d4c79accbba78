//! `avocadoctl refresh`.

use super::{Context, merge};
use crate::access::MergeAction;
use crate::failure::Failure;

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    merge::merge(context, MergeAction::Refresh)
}
