//! Who may mount, and who gets in: an ordinary user by fusermount3 or in a user namespace of his own, root without
//! fuse3, and everybody else only where that was asked for.

use crate::support::room::{ANOTHER, Room, USER};
use crate::support::tools::shout;
use crate::support::{Content, MIB, Store, eventually, seconds};

const ROOT: u32 = 0;

const WITHOUT_FUSE3: &str = "for program in /bin/fusermount* /usr/bin/fusermount*; do \
    [ ! -e $program ] || mount --bind /dev/null $program; done";

/// A file is written by who mounted, and read; all but these get in nowhere.
#[track_caller]
fn serves(room: &Room<'_>, owner: u32, others: &[u32]) {
    room.plays(owner, "echo text > $at/file; [ $(cat $at/file) = text ]");
    let seen = room.plays(owner, "stat -c %u $at/file");
    assert_eq!(seen.trim(), owner.to_string());
    for user in [ROOT, USER, ANOTHER]
        .into_iter()
        .filter(|user| *user != owner)
    {
        for look in ["ls $at", "cat $at/file", "stat $at/file", "echo > $at/new"] {
            let done = room.play(user, look);
            let may = others.contains(&user) && !(look.starts_with("echo") && user != ROOT);
            assert_eq!(done.ok(), may, "{user}: {look}: {}", done.err);
            // The shell and the tools say it in words.
            assert!(
                may || done.err.contains("ermission denied"),
                "{user}: {look}: {}",
                done.err
            );
        }
    }
}

#[test]
fn an_ordinary_user_mounts_by_fusermount3_and_is_alone_on_it() {
    let store = Store::embedded();
    let Some(room) = Room::new(&store, USER, "command -v fusermount3 > /dev/null") else {
        return;
    };
    room.plays(USER, "$mount");
    // Not even root gets in.
    serves(&room, USER, &[]);
    // Its death leaves a plain directory, as root's does.
    let said = room.plays(USER, "$wholefs status --json --state-dir $state");
    let mounts: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    room.plays(USER, &format!("kill -9 {}", mounts[0]["pid"]));
    eventually(seconds(30), "the guardian has cleared it", || {
        room.play(USER, "! mountpoint -q $at && [ -z \"$(ls -A $at)\" ]")
            .ok()
    });
    room.plays(USER, "$mount; echo again > $at/again");
    room.plays(
        USER,
        "$wholefs unmount $at --state-dir $state; ! mountpoint -q $at",
    );
    assert_eq!(store.get("file").as_deref(), Some(&b"text\n"[..]));
    assert_eq!(store.get("again").as_deref(), Some(&b"again\n"[..]));
}

#[test]
fn an_ordinary_user_lets_others_in_where_the_machine_allows_it() {
    let store = Store::embedded();
    let furnish =
        "command -v fusermount3 > /dev/null; echo > conf; mount --bind conf /etc/fuse.conf";
    let Some(room) = Room::new(&store, USER, furnish) else {
        return;
    };
    let refused = room.play(USER, "$mount --allow-other");
    assert_eq!(refused.status.code(), Some(1), "{}", refused.err);
    assert!(
        refused.err.contains("user_allow_other in /etc/fuse.conf"),
        "{}",
        refused.err
    );
    assert_eq!(refused.err.trim_end().lines().count(), 1, "{}", refused.err);
    room.plays(ROOT, "echo user_allow_other > /etc/fuse.conf");
    room.plays(USER, "$mount --allow-other");
    serves(&room, USER, &[ROOT, ANOTHER]);
    room.plays(USER, "$wholefs unmount $at --state-dir $state");
}

#[test]
fn an_ordinary_user_mounts_a_line_of_fstab() {
    let store = Store::embedded();
    // Where mount(8) looks for the helper, and what it reads, are the room's own.
    let furnish = "command -v fusermount3 > /dev/null; mkdir new sbin etc
        ln -s $PWD/wholefs sbin/mount.fuse.wholefs; touch etc/fstab
        mount -t overlay -o lowerdir=$PWD/sbin:/sbin overlay /sbin
        mount --bind etc/fstab /etc/fstab";
    let Some(room) = Room::new(&store, USER, furnish) else {
        return;
    };
    let line = |word: &str| {
        let (bucket, endpoint) = (&store.bucket, &store.endpoint);
        let line = format!(
            "echo s3://{bucket} $at fuse.wholefs {word},noauto,endpoint_url={endpoint},state_dir=$state 0 0 > /etc/fstab"
        );
        room.plays(ROOT, &line);
    };
    line("user");
    room.plays(USER, "mount $at");
    serves(&room, USER, &[]);
    let shown = room.plays(USER, "findmnt -no SOURCE,OPTIONS $at");
    assert!(
        shown.starts_with(&format!("s3://{} ", store.bucket)),
        "{shown}"
    );
    assert!(
        shown.contains("noexec") && shown.contains("user_id=65534"),
        "{shown}"
    );
    let again = room.play(USER, "mount $at");
    assert_eq!(again.status.code(), Some(32), "{}", again.err);
    room.plays(USER, "umount $at; ! mountpoint -q $at");
    line("users,exec");
    room.plays(USER, "mount $at; umount -l $at; ! mountpoint -q $at");
    // What is root's is not the user's to take away.
    line("user");
    // (Nor does root believe what the user's state directory says.)
    let refused = room.play(ROOT, "mount $at");
    assert!(refused.err.contains("belongs to user"), "{}", refused.err);
    room.plays(ROOT, "rm -r $state; mount $at");
    assert!(!room.play(USER, "umount $at").ok());
    room.plays(ROOT, "umount $at");
    assert_eq!(store.get("file").as_deref(), Some(&b"text\n"[..]));
}

#[test]
fn root_mounts_without_fuse3() {
    let store = Store::embedded();
    let Some(room) = Room::new(&store, ROOT, WITHOUT_FUSE3) else {
        return;
    };
    room.plays(ROOT, "$mount");
    serves(&room, ROOT, &[]);
    room.plays(ROOT, "$wholefs unmount $at --state-dir $state");
    room.plays(ROOT, "$mount --allow-other");
    serves(&room, ROOT, &[USER, ANOTHER]);
    room.plays(ROOT, "umount $at");
    // A user has no other way, and is told.
    let refused = room.play(USER, "mkdir $state/mine; $mount --state-dir $state/mine");
    assert!(!refused.ok());
}

#[test]
fn in_a_user_namespace_of_his_own_a_user_needs_no_fusermount3() {
    let store = Store::embedded();
    let Some(room) = Room::new(&store, USER, WITHOUT_FUSE3) else {
        return;
    };
    if !room.play(USER, "unshare -Urm true").ok() {
        return shout("SKIPPED: users may have no namespaces here");
    }
    room.plays(
        USER,
        "unshare -Urm sh -euc '
            $mount
            mountpoint -q $at
            head -c 20000000 /dev/zero > $at/large
            echo text > $at/file
            [ $(cat $at/file) = text ]
            # Whoever is killed publishes nothing, here too.
            sh -c \"exec > $at/torn; echo torn; kill -9 \\$\\$\" || true
            $wholefs unmount $at --state-dir $state
            ! mountpoint -q $at'",
    );
    let objects = store.objects();
    assert_eq!(objects.get("large"), Some(&20_000_000));
    assert_eq!(objects.get("file"), Some(&5));
    assert!(!objects.contains_key("torn"), "{objects:?}");
    assert_eq!(store.open_uploads(), []);
}

/// A place's name is of any bytes, and anybody may mount something there.
#[test]
fn a_mount_at_a_name_that_is_no_text_hides_no_other() {
    let store = Store::embedded();
    store.put("old", "old");
    let furnish = "other=$(printf 'caf\\351'); mkdir $other; mount -t tmpfs none $other";
    let Some(room) = Room::new(&store, ROOT, furnish) else {
        return;
    };
    room.plays(ROOT, "$mount");
    // A child has it from its parent, who closes his own; and is killed.
    room.plays(
        ROOT,
        "exec 3> $at/old
         sh -c 'echo new >&3; kill -STOP $$' &
         exec 3>&-
         until grep -q 'State:.T' /proc/$!/status; do sleep 0.01; done
         kill -9 $!; wait $! || true",
    );
    room.plays(ROOT, "[ $(cat $at/old) = old ]; echo text > $at/file");
    room.plays(ROOT, "$wholefs unmount $at --state-dir $state");
    assert_eq!(store.get("old").as_deref(), Some(&b"old"[..]));
    assert_eq!(store.get("file").as_deref(), Some(&b"text\n"[..]));
}

/// Where nothing tells how a program ended, each would be taken for one that has closed its file.
#[test]
fn without_proc_nothing_is_mounted() {
    let store = Store::embedded();
    let Some(room) = Room::new(&store, ROOT, "mount -t tmpfs none /proc") else {
        return;
    };
    let refused = room.play(ROOT, "$mount");
    assert_eq!(refused.status.code(), Some(1), "{}", refused.err);
    assert!(refused.err.contains("/proc"), "{}", refused.err);
    assert_eq!(refused.err.trim_end().lines().count(), 1, "{}", refused.err);
}

/// Where the machine starts no more threads for it (a unit's `TasksMax`), a mount makes do with those it has.
#[test]
fn a_mount_that_can_start_no_more_threads_goes_on() {
    let store = Store::embedded();
    let Some(room) = Room::new(&store, USER, "command -v fusermount3 > /dev/null") else {
        return;
    };
    let old = Content::new(1, 20 * MIB);
    store.put("old", old.bytes());
    // What is kept on a disk is read and written by threads that may wait for it.
    room.plays(USER, "$mount --cache $state/cache");
    let said = room.plays(USER, "$wholefs status --json --state-dir $state");
    let mounts: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let daemon = &mounts[0]["pid"];
    room.plays(USER, &format!("prlimit --pid {daemon} --nproc=1"));
    let sum = |path: &str| room.plays(USER, &format!("md5sum < {path}"));
    let first = sum("$at/old");
    room.plays(USER, "cp $at/old $at/new");
    store.assert_holds("new", &old);
    for name in ["old", "new"] {
        assert_eq!(sum(&format!("$at/{name}")), first, "{name}");
    }
    room.plays(USER, "$wholefs unmount $at --state-dir $state");
}
