//! The rows of spare networks.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::rows::{ResourceRows, process, statement};
use super::{Store, StoreError};
use crate::id::VmId;
use crate::process::ProcessId;
use crate::report::Report;
use crate::vm::ledger::{Ledger, LedgerError, ResourceKind, SpareProcesses, SpareRows};

#[async_trait]
impl SpareRows for Store {
    fn ledger(&self, spare: &VmId) -> Arc<dyn Ledger> {
        let insert = "INSERT INTO spare_resource (spare, kind, pid, start_ticks)
                      VALUES (?1, ?2, ?3, ?4)
                      ON CONFLICT (spare, kind) DO UPDATE SET pid = ?3, start_ticks = ?4";
        let (store, owner, doing) = (self.clone(), spare.clone(), "write down a spare network");
        Arc::new(ResourceRows { store, owner, insert, doing })
    }

    async fn hand_over(&self, spare: &VmId, vm: &VmId) -> Result<(), LedgerError> {
        let (spare, vm) = (spare.clone(), vm.clone());
        let handed = self.run(move |connection| hand_over(connection, &spare, &vm)).await;
        let kind = ResourceKind::NetworkKeeper;
        handed.map_err(|source| LedgerError { kind, source: source.into() })
    }

    async fn all(&self) -> Result<Vec<SpareProcesses>, Report> {
        Ok(self.run(|connection| all(connection)).await?)
    }

    async fn owned(&self) -> Result<HashSet<ProcessId>, Report> {
        Ok(self.run(|connection| owned(connection)).await?)
    }

    async fn released(&self, spare: &VmId) -> Result<(), Report> {
        let spare = spare.clone();
        let release = move |connection: &mut Connection| {
            connection
                .prepare_cached("DELETE FROM spare_resource WHERE spare = ?1")
                .and_then(|mut delete| delete.execute([spare.as_str()]))
                .map(drop)
                .map_err(statement("release a spare network"))
        };
        Ok(self.run(release).await?)
    }
}

fn hand_over(connection: &mut Connection, spare: &VmId, vm: &VmId) -> Result<(), StoreError> {
    let failed = statement("give a spare network to a VM");
    let transaction = connection.transaction().map_err(&failed)?;
    transaction
        .execute(
            "INSERT INTO resource (vm, kind, pid, start_ticks)
             SELECT ?2, kind, pid, start_ticks FROM spare_resource WHERE spare = ?1",
            params![spare.as_str(), vm.as_str()],
        )
        .map_err(&failed)?;
    transaction
        .execute("DELETE FROM spare_resource WHERE spare = ?1", [spare.as_str()])
        .map_err(&failed)?;
    transaction.commit().map_err(&failed)
}

fn all(connection: &Connection) -> Result<Vec<SpareProcesses>, StoreError> {
    let failed = statement("list the spare networks");
    let mut select = connection
        .prepare_cached("SELECT spare, pid, start_ticks FROM spare_resource")
        .map_err(&failed)?;
    let mut rows = select.query([]).map_err(&failed)?;
    let mut found: BTreeMap<VmId, Vec<Option<ProcessId>>> = BTreeMap::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let spare: String = row.get(0).map_err(&failed)?;
        let spare = spare.parse().map_err(|_| StoreError::Corrupt {
            vm: spare,
            problem: "no spare network has such an id".to_owned(),
        })?;
        let process = process(row.get(1).map_err(&failed)?, row.get(2).map_err(&failed)?);
        found.entry(spare).or_default().push(process);
    }
    Ok(found.into_iter().collect())
}

fn owned(connection: &Connection) -> Result<HashSet<ProcessId>, StoreError> {
    let failed = statement("list the processes of VMs");
    let mut select =
        connection.prepare_cached("SELECT pid, start_ticks FROM resource").map_err(&failed)?;
    let rows = select.query_map([], |row| Ok(process(row.get(0)?, row.get(1)?)));
    let rows: Result<Vec<_>, _> = rows.map_err(&failed)?.collect();
    Ok(rows.map_err(&failed)?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_of_a_spare_become_a_vms_and_never_both() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("cove.db")).expect("opens");
        let (spare, vm) = (VmId::random(), VmId::random());
        let ledger = SpareRows::ledger(&store, &spare);
        let process = ProcessId { pid: 7, start_ticks: 70 };
        ledger.intend(ResourceKind::NetworkKeeper).await.expect("written");
        assert_eq!(SpareRows::all(&store).await.expect("read"), [(spare.clone(), vec![None])]);
        ledger.made(ResourceKind::NetworkKeeper, process).await.expect("written");
        assert_eq!(
            SpareRows::all(&store).await.expect("read"),
            [(spare.clone(), vec![Some(process)])]
        );

        // There is no such VM: nothing is handed over, nothing is lost.
        store.hand_over(&spare, &vm).await.expect_err("no such VM");
        assert_eq!(SpareRows::all(&store).await.expect("read").len(), 1);

        SpareRows::released(&store, &spare).await.expect("released");
        assert_eq!(SpareRows::all(&store).await.expect("read"), []);
    }
}
