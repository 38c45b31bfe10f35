//! VMs as clients get them, written as JSON when they change and not when somebody lists them: a list of
//! many VMs then costs little more than its bytes.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::record::VmRecord;
use crate::wire::rpc::Vm;

/// One VM as everybody but its owner sees it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) record: VmRecord,
    pub(super) shown: Shown,
}

/// One VM in JSON: a `wire::rpc::Vm`.
#[derive(Debug, Clone)]
pub struct Shown(Arc<RawValue>);

/// A page of VMs: on the wire, a `wire::rpc::VmPage`.
#[derive(Debug, Clone, Serialize)]
pub struct ShownPage {
    pub(super) vms: Vec<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

impl Seen {
    pub(super) fn of(record: VmRecord) -> Self {
        let shown = Shown::of(&record.view());
        Self { record, shown }
    }
}

impl Shown {
    pub(super) fn of(vm: &Vm) -> Self {
        Self(to_raw_value(vm).expect("a VM has string keys only").into())
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
