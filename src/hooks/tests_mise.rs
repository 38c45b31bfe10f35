//! The plugin `mise`, as a component: in which machines it runs mise, with what, and what it says of the end.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::tests_support::User;
use super::*;
use crate::egress::Mode;
use crate::wire::rpc::NetMode;

const ID: &str = "mise";

/// A guest with a repository and, perhaps, mise.
struct Guest {
    /// What `ls` finds of what it is asked for.
    files: &'static str,
    /// How mise ends; there is none when not given.
    mise: Option<i32>,
    ran: Mutex<Vec<GuestProgram>>,
}

impl Guest {
    fn new(files: &'static str, mise: Option<i32>) -> Arc<Self> {
        Arc::new(Self { files, mise, ran: Mutex::default() })
    }

    fn ran(&self) -> Vec<GuestProgram> {
        self.ran.lock().expect("no panic under the lock").clone()
    }
}

impl GuestPrograms for Guest {
    fn run(&self, program: GuestProgram) -> BoxFuture<'_, Result<GuestOutput, String>> {
        let name = program.program.clone();
        self.ran.lock().expect("no panic under the lock").push(program);
        let output = match (name.as_str(), self.mise) {
            ("ls", _) => {
                Ok(GuestOutput { status: 2, stdout: self.files.into(), ..GuestOutput::default() })
            }
            (_, Some(status)) => {
                let stderr = b"mise going on\n\x1b[2Jno such version\n".to_vec();
                Ok(GuestOutput { status, stderr, ..GuestOutput::default() })
            }
            (_, None) => Err("`mise`: No such file or directory (os error 2)".to_owned()),
        };
        std::future::ready(output).boxed()
    }
}

/// A user who has the plugin and a machine with a repository.
fn user() -> User {
    let mut user = User::new();
    user.install(&user.settings.standard_folder, ID, ID, |manifest| manifest);
    let machine = user.inputs.machine.as_mut().expect("a machine");
    machine.workspace = Some("song".to_owned());
    user
}

/// What the user is told.
async fn told(user: &User, guest: &Arc<Guest>) -> Vec<String> {
    let host = user.host().await;
    let outcomes = host.post_start(&user.inputs, guest.clone()).await.expect("never a failure");
    outcomes[0].for_user()
}

#[tokio::test]
async fn tools_are_installed_in_the_repository_that_asks_for_them() {
    let (user, guest) = (user(), Guest::new("mise.toml\n", Some(0)));
    assert_eq!(told(&user, &guest).await, [""; 0]);
    let ran = guest.ran();
    let [ls, mise] = ran.as_slice() else { panic!("two programs: {ran:?}") };
    assert_eq!(ls.arguments, ["-1", "-d", "--", "mise.toml", ".mise.toml", ".tool-versions"]);
    assert_eq!((mise.program.as_str(), &mise.arguments[..]), ("mise", &["install".to_owned()][..]));
    assert_eq!((ls.folder.as_deref(), mise.folder.as_deref()), (Some("song"), Some("song")));
    assert_eq!(mise.environment["MISE_TRUSTED_CONFIG_PATHS"], "~/song");
    assert_eq!(mise.environment["MISE_YES"], "1");

    let guest = Guest::new("", Some(0));
    assert_eq!(told(&user, &guest).await, [""; 0]);
    assert_eq!(guest.ran().len(), 1, "nothing asks for tools");
}

#[tokio::test]
async fn what_goes_wrong_is_a_warning() {
    let user = user();
    let said = told(&user, &Guest::new(".tool-versions\n", None)).await;
    assert!(said.len() == 1 && said[0].contains("No such file or directory"), "{said:?}");
    let said = told(&user, &Guest::new(".tool-versions\n", Some(1))).await;
    let expected = "not all tools in `.tool-versions` are installed: `mise` ended with 1: \
                    \\u{1b}[2Jno such version";
    assert_eq!(said, [expected]);
}

#[tokio::test]
async fn a_machine_without_a_way_out_gets_no_tools_unless_it_is_said() {
    for (net, mode, setting, programs) in [
        (NetMode::User, Mode::Open, None, 2),
        (NetMode::None, Mode::Open, None, 0),
        (NetMode::User, Mode::Closed, None, 0),
        (NetMode::User, Mode::Closed, Some("always"), 2),
        (NetMode::User, Mode::Open, Some("never"), 0),
    ] {
        let mut user = user();
        let plan = &mut user.inputs.machine.as_mut().expect("a machine").plan;
        (plan.net, plan.egress.mode) = (net, mode);
        let settings = setting.map(|setting| ("enabled".to_owned(), setting.into()));
        user.inputs.settings.insert(ID.parse().expect("an id"), settings.into_iter().collect());
        let guest = Guest::new("mise.toml\n", Some(0));
        assert_eq!(told(&user, &guest).await, [""; 0]);
        assert_eq!(guest.ran().len(), programs, "{net:?} {mode:?} {setting:?}");
    }
}
