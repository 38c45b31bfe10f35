//! The rows of VMs and resources.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

use super::{Store, StoreError, leases};
use crate::id::{InvalidId, VmId};
use crate::process::ProcessId;
use crate::vm::address::Ranges;
use crate::vm::ledger::{Ledger, LedgerError, ResourceKind};
use crate::vm::ports::{PortResult, Rows};
use crate::vm::record::{Stored, Unreadable, VmRecord};
use crate::wire::rpc::NetMode;

/// The longest text that is repeated of a row that cannot be read.
const SHOWN: usize = 64;

pub(super) fn statement(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Statement { doing, source }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("rows have string keys only")
}

#[async_trait]
impl Rows for Store {
    async fn insert(&self, vm: &VmRecord) -> PortResult<()> {
        let (vm, ranges) = (vm.clone(), self.ranges);
        Ok(self.run(move |connection| insert(connection, &vm, ranges)).await?)
    }

    async fn update(&self, vm: &VmRecord) -> PortResult<()> {
        let vm = vm.clone();
        let update = move |connection: &mut Connection| {
            connection
                .prepare_cached(
                    "UPDATE vm SET spec = ?2, state = ?3, workspace = ?4, leased = ?5,
                     started_at = ?6, last_touched_at = ?7 WHERE id = ?1",
                )
                .and_then(|mut update| {
                    update.execute(params![
                        vm.id.as_str(),
                        json(&vm.spec),
                        json(&vm.state),
                        vm.workspace.as_ref().map(json),
                        vm.leased,
                        vm.started_at,
                        vm.last_touched_at,
                    ])
                })
                .map(drop)
                .map_err(statement("change a VM"))
        };
        Ok(self.run(update).await?)
    }

    async fn remove(&self, vm: &VmId) -> PortResult<()> {
        let vm = vm.clone();
        let remove = move |connection: &mut Connection| {
            connection
                .execute("DELETE FROM vm WHERE id = ?1", [vm.as_str()])
                .map(drop)
                .map_err(statement("remove a VM"))
        };
        Ok(self.run(remove).await?)
    }

    async fn all(&self) -> PortResult<Stored> {
        Ok(self.run(|connection| all(connection)).await?)
    }

    fn ledger(&self, vm: &VmId) -> Arc<dyn Ledger> {
        let insert = "INSERT INTO resource (vm, kind, pid, start_ticks) VALUES (?1, ?2, ?3, ?4)
                      ON CONFLICT (vm, kind) DO UPDATE SET pid = ?3, start_ticks = ?4";
        let (store, owner, doing) = (self.clone(), vm.clone(), "write down a resource");
        Arc::new(ResourceRows { store, owner, insert, doing })
    }

    async fn resources(&self, vm: &VmId) -> PortResult<Vec<(ResourceKind, Option<ProcessId>)>> {
        let vm = vm.clone();
        Ok(self.run(move |connection| resources(connection, &vm)).await?)
    }

    async fn released(&self, vm: &VmId, kind: ResourceKind) -> PortResult<()> {
        let vm = vm.clone();
        let release = move |connection: &mut Connection| {
            connection
                .prepare_cached("DELETE FROM resource WHERE vm = ?1 AND kind = ?2")
                .and_then(|mut delete| delete.execute(params![vm.as_str(), kind.as_str()]))
                .map(drop)
                .map_err(statement("release a resource"))
        };
        Ok(self.run(release).await?)
    }
}

fn insert(
    connection: &mut Connection,
    vm: &VmRecord,
    ranges: Option<Ranges>,
) -> Result<(), StoreError> {
    let failed = statement("add a VM");
    let transaction = connection.transaction().map_err(&failed)?;
    let taken: Option<String> = transaction
        .query_row("SELECT name FROM vm WHERE name = ?1", [vm.name.as_str()], |row| row.get(0))
        .optional()
        .map_err(&failed)?;
    if let Some(name) = taken {
        return Err(StoreError::NameTaken { name });
    }
    transaction
        .execute(
            "INSERT INTO vm (id, name, spec, state, workspace, leased, created_at, started_at,
             last_touched_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                vm.id.as_str(),
                vm.name.as_str(),
                json(&vm.spec),
                json(&vm.state),
                vm.workspace.as_ref().map(json),
                vm.leased,
                vm.created_at,
                vm.started_at,
                vm.last_touched_at,
            ],
        )
        .map_err(&failed)?;
    transaction
        .execute(
            "INSERT INTO resource (vm, kind) VALUES (?1, ?2)",
            params![vm.id.as_str(), ResourceKind::Folder.as_str()],
        )
        .map_err(&failed)?;
    if vm.spec.net == NetMode::Bridge {
        leases::reserve(&transaction, &vm.id, ranges.ok_or(StoreError::NoRanges)?)?;
    }
    transaction.commit().map_err(&failed)
}

fn all(connection: &Connection) -> Result<Stored, StoreError> {
    let failed = statement("list the VMs");
    let mut select = connection
        .prepare_cached(
            "SELECT id, name, spec, state, workspace, leased, created_at, started_at,
             last_touched_at, rowid FROM vm ORDER BY created_at, id",
        )
        .map_err(&failed)?;
    let mut rows = select.query([]).map_err(&failed)?;
    let mut stored = Stored::default();
    while let Some(row) = rows.next().map_err(&failed)? {
        match record(row) {
            Ok(record) => stored.vms.push(record),
            Err(problem) => stored.unreadable.push(Unreadable {
                row: row.get(9).map_err(&failed)?,
                id: text(row, 0).parse().ok(),
                name: text(row, 1),
                problem,
            }),
        }
    }
    Ok(stored)
}

/// A column as text, whatever it holds, cut to a length fit for messages.
fn text(row: &Row<'_>, column: usize) -> String {
    let text = row.get_ref(column).ok().and_then(|value| value.as_bytes().ok());
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    text.chars().take(SHOWN).collect()
}

/// A VM, or what is wrong with its row.
fn record(row: &Row<'_>) -> Result<VmRecord, String> {
    let column = |error: rusqlite::Error| error.to_string();
    let id: String = row.get(0).map_err(column)?;
    let name: String = row.get(1).map_err(column)?;
    let workspace: Option<String> = row.get(4).map_err(column)?;
    Ok(VmRecord {
        id: id.parse().map_err(|error: InvalidId| error.to_string())?,
        name: name.parse().map_err(|error: InvalidId| error.to_string())?,
        spec: parse("spec", &row.get::<_, String>(2).map_err(column)?)?,
        state: parse("state", &row.get::<_, String>(3).map_err(column)?)?,
        workspace: workspace.map(|text| parse("workspace", &text)).transpose()?,
        leased: row.get(5).map_err(column)?,
        created_at: row.get(6).map_err(column)?,
        started_at: row.get(7).map_err(column)?,
        last_touched_at: row.get(8).map_err(column)?,
    })
}

fn parse<T: DeserializeOwned>(column: &str, text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("`{column}`: {error}"))
}

fn resources(
    connection: &Connection,
    vm: &VmId,
) -> Result<Vec<(ResourceKind, Option<ProcessId>)>, StoreError> {
    let failed = statement("list the resources of a VM");
    let mut select = connection
        .prepare_cached("SELECT kind, pid, start_ticks FROM resource WHERE vm = ?1")
        .map_err(&failed)?;
    let mut rows = select.query([vm.as_str()]).map_err(&failed)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(&failed)? {
        let kind: String = row.get(0).map_err(&failed)?;
        let kind = ResourceKind::ALL.into_iter().find(|known| known.as_str() == kind);
        let kind = kind.ok_or_else(|| StoreError::Corrupt {
            vm: vm.to_string(),
            problem: "it has a resource of an unknown kind".to_owned(),
        })?;
        found.push((kind, process(row.get(1).map_err(&failed)?, row.get(2).map_err(&failed)?)));
    }
    Ok(found)
}

/// A process out of its two columns.
pub(super) fn process(pid: Option<i32>, ticks: Option<i64>) -> Option<ProcessId> {
    let both = pid.zip(ticks);
    both.map(|(pid, ticks)| ProcessId { pid, start_ticks: ticks.cast_unsigned() })
}

/// The rows of the resources of one VM, or of one spare network.
pub(super) struct ResourceRows {
    pub(super) store: Store,
    pub(super) owner: VmId,
    /// Writes a row: of the owner, the kind, and the two columns of a process.
    pub(super) insert: &'static str,
    /// What that is, for messages.
    pub(super) doing: &'static str,
}

impl ResourceRows {
    async fn write(
        &self,
        kind: ResourceKind,
        process: Option<ProcessId>,
    ) -> Result<(), LedgerError> {
        let (owner, insert, doing) = (self.owner.clone(), self.insert, self.doing);
        let write = move |connection: &mut Connection| {
            connection
                .prepare_cached(insert)
                .and_then(|mut insert| {
                    insert.execute(params![
                        owner.as_str(),
                        kind.as_str(),
                        process.map(|process| process.pid),
                        process.map(|process| process.start_ticks.cast_signed()),
                    ])
                })
                .map(drop)
                .map_err(statement(doing))
        };
        self.store.run(write).await.map_err(|source| LedgerError { kind, source: source.into() })
    }
}

#[async_trait]
impl Ledger for ResourceRows {
    async fn intend(&self, kind: ResourceKind) -> Result<(), LedgerError> {
        self.write(kind, None).await
    }

    async fn made(&self, kind: ResourceKind, process: ProcessId) -> Result<(), LedgerError> {
        self.write(kind, Some(process)).await
    }
}
