//! The rows of a world's database, read beside its daemon, and written over while none runs.

use rusqlite::{Connection, OptionalExtension};

use super::World;

impl World {
    fn database(&self) -> Connection {
        Connection::open(self.home.join("cove.db")).expect("a database")
    }

    /// The state in a VM's row, as the daemon writes it; None when there is no row.
    pub(crate) fn row(&self, vm: &str) -> Option<String> {
        let state = "SELECT state FROM vm WHERE id = ?1";
        let read = self.database().query_row(state, [vm], |row| row.get(0));
        read.optional().expect("read")
    }

    /// The kinds of resources that a VM has rows of, in order.
    pub(crate) fn resources(&self, vm: &str) -> Vec<String> {
        let database = self.database();
        let kinds = "SELECT kind FROM resource WHERE vm = ?1 ORDER BY kind";
        let mut select = database.prepare(kinds).expect("a statement");
        let kinds = select.query_map([vm], |row| row.get(0)).expect("read");
        kinds.collect::<Result<_, _>>().expect("read")
    }

    /// The ids of the networks made ahead, with the processes that their rows name.
    pub(crate) fn spares(&self) -> Vec<(String, Option<i32>)> {
        let database = self.database();
        let rows = "SELECT spare, pid FROM spare_resource ORDER BY spare, kind";
        let mut select = database.prepare(rows).expect("a statement");
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("read");
        rows.collect::<Result<_, _>>().expect("read")
    }

    /// Changes rows behind the daemon's back. Every statement must change something.
    pub(crate) fn rewrite_rows(&self, statements: &[String]) {
        let database = self.database();
        for statement in statements {
            let changed = database.execute(statement, []).expect(statement);
            assert!(changed > 0, "it meets no row: {statement}");
        }
    }
}
