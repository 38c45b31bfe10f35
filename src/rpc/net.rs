//! Methods about what VMs may reach.

use super::methods::{Catalog, add};
use crate::wire::rpc;

pub(super) fn add_all(module: &mut Catalog) {
    add::<rpc::NetShowNow, _, _>(module, |context, wanted, _| async move {
        context.services.vms.net(&wanted.vm)
    });
    add::<rpc::NetAllow, _, _>(module, |context, wanted, _| async move {
        context.services.vms.allow(wanted).await
    });
    add::<rpc::NetDeny, _, _>(module, |context, wanted, _| async move {
        context.services.vms.deny(wanted).await
    });
    add::<rpc::NetExplainNow, _, _>(module, |context, wanted, _| async move {
        context.services.vms.explain(&wanted).await
    });
    add::<rpc::NetDenialsNow, _, _>(module, |context, wanted, _| async move {
        context.services.vms.denials(&wanted).await
    });
}
