//! The whole way, from a client in a guest's place to an agent in memory.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use ssh_encoding::Encode as _;

use super::messages::{Messages, identities, messages, read_identities};
use super::*;
use crate::keys::{KeyPair, fingerprint, public_blob};

/// What the user's agent answers to a request for a signature, and to other requests.
const SIGNATURE: &[u8] = &[14, 0, 0, 0, 1, 7];
const SUCCESS: &[u8] = &[6];
const FAILURE: &[u8] = &[5];

fn key(comment: &str) -> Key {
    let line = KeyPair::new(comment).expect("made").public;
    Key { blob: public_blob(&line).expect("a key"), comment: comment.into() }
}

/// A message with these fields behind its number.
fn message(number: u8, fields: &[&[u8]]) -> Bytes {
    let mut message = vec![number];
    for field in fields {
        field.encode(&mut message).expect("written");
    }
    message.into()
}

/// A request to sign a log-in in the session with this id.
fn sign_in(key: &Key, session: &[u8]) -> Bytes {
    let data = message(0, &[session, b"user"]).split_off(1);
    [message(13, &[&key.blob, &data]), Bytes::from_static(&[0; 4])].concat().into()
}

fn sign(key: &Key) -> Bytes {
    sign_in(key, b"session")
}

fn bind(server: &[u8], carrier: u8) -> Bytes {
    let fields: [&[u8]; 4] = [b"session-bind@openssh.com", server, b"session", b"signature"];
    [message(27, &fields), Bytes::copy_from_slice(&[carrier])].concat().into()
}

/// The user's agent, with two keys, which signs with both and does all that it is asked to.
struct World {
    folder: TempDir,
    asked: Arc<Mutex<Vec<u8>>>,
    tasks: Tasks,
    keys: [Key; 2],
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("users")).expect("bound");
        let (asked, tasks) = (Arc::new(Mutex::new(Vec::new())), Tasks::default());
        let keys = [key("work"), key("home")];
        let answers = (asked.clone(), identities(&keys).expect("written"), tasks.clone());
        tasks.spawn_until_shutdown("the user's agent", async move {
            let (asked, identities, tasks) = answers;
            while let Ok((connection, _)) = listener.accept().await {
                let (asked, identities) = (asked.clone(), identities.clone());
                tasks.spawn_until_shutdown("connection", async move {
                    let mut client = messages(connection);
                    while let Some(Ok(message)) = client.next().await {
                        asked.lock().expect("no panic under the lock").push(message[0]);
                        let answer = match message[0] {
                            11 => identities.clone(),
                            13 => Bytes::from_static(SIGNATURE),
                            _ => Bytes::from_static(SUCCESS),
                        };
                        client.send(answer).await.expect("taken");
                    }
                });
            }
        });
        Self { folder, asked, tasks, keys }
    }

    fn agent(&self) -> PathBuf {
        self.folder.path().join("users")
    }

    /// What the guest of a session gets, in which the first key may be used.
    fn forwarding(&self) -> Forwarding {
        let record = record::tests::record(self.folder.path());
        Forwarding::listen(self.agent(), vec![self.keys[0].clone()], record).expect("listens")
    }

    /// The numbers of the messages that reached the user's agent.
    fn asked(&self) -> Vec<u8> {
        self.asked.lock().expect("no panic under the lock").clone()
    }

    fn recorded(&self) -> Vec<Value> {
        record::tests::lines(self.folder.path())
    }
}

async fn connect(forwarding: &Forwarding) -> Messages {
    messages(UnixStream::connect(forwarding.socket()).await.expect("connects"))
}

async fn ask(client: &mut Messages, question: Bytes) -> Vec<u8> {
    client.send(question).await.expect("taken");
    client.next().await.expect("an answer").expect("an answer").to_vec()
}

#[tokio::test]
async fn only_named_keys_are_there_and_each_signature_is_written_down() {
    let world = World::new();
    let forwarding = world.forwarding();
    let mut client = connect(&forwarding).await;
    let listed = ask(&mut client, Bytes::from_static(&[11])).await;
    assert_eq!(read_identities(&listed).expect("keys"), world.keys[..1]);

    assert_eq!(ask(&mut client, sign(&world.keys[0])).await, SIGNATURE);
    assert_eq!(ask(&mut client, sign(&world.keys[1])).await, FAILURE);
    // The guest itself, which only carries; and where its ssh goes.
    assert_eq!(ask(&mut client, bind(b"guest", 1)).await, SUCCESS);
    assert_eq!(ask(&mut client, bind(b"forge", 0)).await, SUCCESS);
    assert_eq!(ask(&mut client, sign(&world.keys[0])).await, SIGNATURE);
    // What is for another session is not said to be for that server.
    assert_eq!(ask(&mut client, sign_in(&world.keys[0], b"other")).await, SIGNATURE);
    assert_eq!(world.asked(), [13, 27, 27, 13, 13]);

    let recorded = world.recorded();
    let said: Vec<_> = recorded
        .iter()
        .map(|line| [&line["key"], &line["outcome"], &line["server"]].map(Value::as_str))
        .collect();
    let [work, home] = world.keys.each_ref().map(Key::fingerprint);
    let forge = fingerprint(b"forge");
    assert_eq!(
        said,
        [
            [Some(work.as_str()), Some("signed"), None],
            [Some(home.as_str()), Some("refused"), None],
            [Some(work.as_str()), Some("signed"), Some(forge.as_str())],
            [Some(work.as_str()), Some("signed"), None],
        ]
    );
    forwarding.end().await;
    world.tasks.drain(GRACE).await;
}

#[tokio::test]
async fn nothing_else_reaches_the_agent() {
    let world = World::new();
    let forwarding = world.forwarding();
    let mut client = connect(&forwarding).await;
    let key = &world.keys[0].blob[..];
    for question in [
        message(17, &[b"ssh-ed25519", b"x", b"x", b"x"]),
        message(18, &[key]),
        message(19, &[]),
        message(20, &[b"reader", b"pin"]),
        message(22, &[b"password"]),
        message(23, &[b"password"]),
        message(25, &[b"ssh-ed25519"]),
        message(27, &[b"query"]),
        message(13, &[]),
        message(200, &[]),
    ] {
        assert_eq!(ask(&mut client, question.clone()).await, FAILURE, "{question:?}");
    }
    assert_eq!(world.asked(), [0; 0]);
    // What is no message ends the connection, and no other.
    let mut other = connect(&forwarding).await;
    tokio::io::AsyncWriteExt::write_all(other.get_mut(), &[255; 8]).await.expect("taken");
    assert!(!matches!(other.next().await, Some(Ok(_))));
    assert_eq!(ask(&mut client, message(19, &[])).await, FAILURE);
    assert!(world.recorded().is_empty());
}

#[tokio::test]
async fn a_signature_that_cannot_be_written_down_is_not_given() {
    let world = World::new();
    let record = record::tests::record(&world.folder.path().join("not there"));
    let forwarding = Forwarding::listen(world.agent(), world.keys.to_vec(), record);
    let forwarding = forwarding.expect("listens");
    let mut client = connect(&forwarding).await;
    assert_eq!(ask(&mut client, sign(&world.keys[0])).await, FAILURE);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_too_late_is_no_answer_to_another_question() {
    let (agent, mut users) = Agent::pair().expect("a pair");
    let folder = tempfile::tempdir().expect("a folder");
    let (keys, record) = ([key("work")], record::tests::record(folder.path()));
    let (guest, filtered) = UnixStream::pair().expect("a pair");
    let serve = Filter::new(agent, &keys, &record).serve(filtered);
    let late = async {
        let mut guest = messages(guest);
        assert_eq!(ask(&mut guest, sign(&keys[0])).await, FAILURE, "nobody has answered");
        users.next().await.expect("asked").expect("asked");
        users.send(Bytes::from_static(SIGNATURE)).await.ok();
        assert_eq!(ask(&mut guest, bind(b"forge", 0)).await, FAILURE);
        assert_eq!(ask(&mut guest, sign(&keys[0])).await, FAILURE);
    };
    let (served, ()) = tokio::join!(serve, late);
    served.expect("the guest has closed it");
    let outcomes: Vec<_> =
        record::tests::lines(folder.path()).iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["declined", "declined"]);
}

#[tokio::test]
async fn the_socket_is_for_the_user_alone_and_goes_with_the_session() {
    let world = World::new();
    let forwarding = world.forwarding();
    let (socket, folder) = (forwarding.socket(), forwarding.folder.path().to_owned());
    let mode = std::fs::metadata(&folder).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mut client = connect(&forwarding).await;
    assert_eq!(ask(&mut client, sign(&world.keys[0])).await, SIGNATURE);
    forwarding.end().await;
    assert!(!matches!(client.next().await, Some(Ok(_))), "it is cut off");
    UnixStream::connect(&socket).await.expect_err("nobody listens");
    assert!(!folder.exists());
}

#[tokio::test]
async fn without_an_agent_there_is_advice() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = offered(&folder.path().join("nobody")).await.expect_err("nobody listens");
    assert!(report.kind == Kind::Failed && report.hint.is_some(), "{report:?}");
    let world = World::new();
    assert_eq!(offered(&world.agent()).await.expect("it answers"), world.keys);
}
