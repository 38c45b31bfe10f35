//! The addresses of bridged VMs: who has which slot.
//!
//! A slot belongs to a VM from its creation until its row is removed, so a VM that is stopped keeps its
//! address. Two VMs never have one slot: the column is unique, and there is one writer.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Store, StoreError};
use crate::id::VmId;
use crate::vm::address::Ranges;

fn failed(source: rusqlite::Error) -> StoreError {
    StoreError::Statement { doing: "give a VM an address", source }
}

impl Store {
    /// The slot of a VM, which gets one now if it has none, or none that the ranges still have.
    ///
    /// # Errors
    /// When every slot is taken, or the VM has no row.
    pub async fn lease(&self, vm: &VmId) -> Result<u32, StoreError> {
        let (vm, ranges) = (vm.clone(), self.ranges.ok_or(StoreError::NoRanges)?);
        self.run(move |connection| {
            let transaction = connection.transaction().map_err(failed)?;
            let slot = reserve(&transaction, &vm, ranges)?;
            transaction.commit().map_err(failed)?;
            Ok(slot)
        })
        .await
    }

    /// Every VM that has a slot, and its slot.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn leases(&self) -> Result<Vec<(VmId, u32)>, StoreError> {
        self.run(|connection| all(connection)).await
    }
}

/// The slot of a VM, in a transaction in which its row exists.
pub(super) fn reserve(
    transaction: &Transaction<'_>,
    vm: &VmId,
    ranges: Ranges,
) -> Result<u32, StoreError> {
    let query = "SELECT slot FROM lease WHERE vm = ?1";
    let has: Option<u32> =
        transaction.query_row(query, [vm.as_str()], |row| row.get(0)).optional().map_err(failed)?;
    if let Some(slot) = has.filter(|slot| *slot < ranges.capacity()) {
        return Ok(slot);
    }
    let slot = free(transaction, vm, ranges)?;
    let insert = "INSERT INTO lease (vm, slot) VALUES (?1, ?2)
                  ON CONFLICT (vm) DO UPDATE SET slot = ?2";
    transaction.execute(insert, params![vm.as_str(), slot]).map_err(failed)?;
    Ok(slot)
}

/// The VM's first choice, or the next free slot after it.
fn free(transaction: &Transaction<'_>, vm: &VmId, ranges: Ranges) -> Result<u32, StoreError> {
    let mut select = transaction
        .prepare_cached("SELECT slot FROM lease WHERE slot < ?1 AND vm <> ?2")
        .map_err(failed)?;
    let rows = select
        .query_map(params![ranges.capacity(), vm.as_str()], |row| row.get(0))
        .map_err(failed)?;
    let taken: BTreeSet<u32> = rows.collect::<Result<_, _>>().map_err(failed)?;
    let first = ranges.first_choice(vm);
    let mut choices = (first..ranges.capacity()).chain(0..first);
    choices
        .find(|slot| !taken.contains(slot))
        .ok_or(StoreError::NoAddress { taken: ranges.capacity(), range: ranges.range4() })
}

fn all(connection: &Connection) -> Result<Vec<(VmId, u32)>, StoreError> {
    let listing = |source| StoreError::Statement { doing: "list the addresses of VMs", source };
    let mut select =
        connection.prepare_cached("SELECT vm, slot FROM lease ORDER BY slot").map_err(listing)?;
    let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
    let rows: Vec<(String, u32)> =
        rows.map_err(listing)?.collect::<Result<_, _>>().map_err(listing)?;
    let parse = |(vm, slot): (String, u32)| match vm.parse() {
        Ok(id) => Ok((id, slot)),
        Err(_) => Err(StoreError::Corrupt { vm, problem: "its lease has no VM id".to_owned() }),
    };
    rows.into_iter().map(parse).collect()
}
