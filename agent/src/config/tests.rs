use super::*;

const LEAST: &str = "zone = \"zone-a\"\n[images.default]\nprogram = [\"server\"]\n";

fn read(text: &str) -> Result<HostConfig, ConfigError> {
    read::config(text, Path::new("/etc/eventplane/host.toml"), "machine-7")
}

#[test]
fn a_zone_and_an_image_are_enough() {
    let config = read(LEAST).expect("right");
    let image = Image { program: vec!["server".to_owned()], disk: None };
    let right = HostConfig {
        host_id: HostId::parse("machine-7").expect("an id"),
        zone: "zone-a".to_owned(),
        rack: "rack-1".to_owned(),
        driver: DriverKind::Process,
        data_dir: PathBuf::from("/var/lib/eventplane"),
        volumes_dir: PathBuf::from("/var/lib/eventplane/volumes"),
        heartbeat_s: 30,
        poll_wait_s: 20,
        capacity: Capacity::default(),
        restart: Restart::default(),
        images: BTreeMap::from([("default".to_owned(), image)]),
    };
    assert_eq!(config, right);
}

#[test]
fn everything_can_be_said_and_paths_begin_at_the_file() {
    let config = read(
        r#"
        host_id = "host-a"
        zone = "zone-b"
        rack = "r2"
        driver = "qemu"
        data_dir = "data"
        volumes_dir = "/shared/volumes"
        heartbeat_s = 5
        poll_wait_s = 0
        [capacity]
        vcpus = 8
        memory_mib = 16384
        network_mbps = 1000
        gpus = { model = "A10G", count = 4 }
        reserved_vcpus = 1
        reserved_memory_mib = 512
        [restart]
        policy = "never"
        first_ms = 10
        longest_ms = 20
        calm_ms = 30
        stop_grace_ms = 40
        [images.default]
        disk = "images/debian.qcow2"
        [images."ami-1"]
        program = ["bin/server", "--port", "80"]
        disk = "/images/other.qcow2"
        "#,
    )
    .expect("right");
    let capacity = Capacity {
        vcpus: Some(8),
        memory_mib: Some(16384),
        network_mbps: Some(1000),
        gpus: Some(Gpus { model: "A10G".to_owned(), count: 4 }),
        reserved_vcpus: 1,
        reserved_memory_mib: 512,
    };
    let restart = Restart {
        policy: RestartPolicy::Never,
        first_ms: 10,
        longest_ms: 20,
        calm_ms: 30,
        stop_grace_ms: 40,
    };
    let paths = (config.data_dir.to_str(), config.volumes_dir.to_str());
    assert_eq!(paths, (Some("/etc/eventplane/data"), Some("/shared/volumes")));
    assert_eq!((&config.capacity, config.restart), (&capacity, restart));
    assert_eq!((config.heartbeat_s, config.poll_wait_s), (5, 0));
    let disk = |id: &str| config.image(id).and_then(|image| image.disk.as_ref()?.to_str());
    assert_eq!(disk("ami-2"), Some("/etc/eventplane/images/debian.qcow2"));
    assert_eq!(disk("ami-1"), Some("/images/other.qcow2"));
    let program = &config.image("ami-1").expect("named").program;
    assert_eq!(program[..], ["/etc/eventplane/bin/server", "--port", "80"]);
}

#[test]
fn an_image_without_an_entry_runs_nothing_where_there_is_no_default() {
    let config = read("zone = \"a\"").expect("user data say what is run");
    assert_eq!(config.image("ami-1"), None);
    let config = read("zone = \"a\"\n[images.ami-1]\nprogram = [\"x\"]").expect("right");
    assert!(config.image("ami-1").is_some());
    assert_eq!(config.image("ami-2"), None);
}

/// Each file with the line that is wrong and what has to be said of it.
#[test]
fn what_is_wrong_is_said_with_its_line_its_field_and_what_would_be_right() {
    let line_1 = |line: &str| format!("{line}\n{LEAST}");
    let line_4 = |lines: &str| format!("{LEAST}{lines}");
    let cases = [
        (line_1("hostid = \"a\""), Some(1), &["`hostid`", "`host_id`"][..]),
        (line_1("host_id = \"-a\""), Some(1), &["`host_id`", "`-a`", "the first a letter"]),
        (line_1("host_id = 7"), Some(1), &["host_id = 7", "string"]),
        (line_1("rack = \"a b\""), Some(1), &["`rack`", "letters, digits"]),
        (line_1("driver = \"docker\""), Some(1), &["docker", "`process`, `netns`", "`qemu`"]),
        (line_1("heartbeat_s = 90"), Some(1), &["`heartbeat_s`", "1 to 60, not 90"]),
        (line_1("poll_wait_s = 31"), Some(1), &["`poll_wait_s`", "0 to 30, not 31"]),
        (line_1("driver = \"qemu\""), Some(3), &["`default`", "qemu", "disk = "]),
        (line_4("[capacity]\nvcpus = 0"), Some(5), &["`vcpus`", "1 to"]),
        (line_4("[capacity]\n\nmemory_mib = \"1\""), Some(6), &["memory_mib", "u32"]),
        (line_4("[capacity]\ngpus = { model = \"A 10\", count = 1 }"), Some(5), &["`gpus.model`"]),
        (line_4("[capacity]\ngpus = { model = \"A10\" }"), Some(5), &["`count`"]),
        (line_4("[capacity]\ncpus = 1"), Some(5), &["`cpus`", "`vcpus`"]),
        (line_4("[restart]\npolicy = \"on-error\""), Some(5), &["`on-failure`", "`always`"]),
        (line_4("[restart]\nlongest_ms = 999"), Some(5), &["`longest_ms`", "1000 to", "not 999"]),
        (line_4("[restart]\ncalm_ms = -1"), Some(5), &["calm_ms = -1"]),
        (line_4("[images.debian]\nprogram = [\"x\"]"), Some(4), &["`debian`", "ami-1"]),
        (line_4("[images.ami-1]\nprogram = []"), Some(4), &["`ami-1`", "program = "]),
        (line_4("[images.ami-1]\nprogramme = []"), Some(5), &["`programme`", "`program`"]),
        (line_1("rack = "), Some(1), &["rack ="]),
        (LEAST.replace("zone = \"zone-a\"", ""), None, &["`zone` is missing", "zone = \"zone-a\""]),
        ("zone = \"a\"\ndriver = \"qemu\"".to_owned(), None, &["no image", "`[images.default]`"]),
    ];
    for (text, line, words) in cases {
        let error = read(&text).expect_err(&text);
        let at = match &error {
            ConfigError::Wrong { line, .. } => Some(*line),
            _ => None,
        };
        let said = error.to_string();
        assert_eq!(at, line, "{text}\n{said}");
        assert!(said.starts_with("/etc/eventplane/host.toml"), "{said}");
        for word in words {
            assert!(said.contains(word), "no {word} in: {said}\n{text}");
        }
    }
}

#[test]
fn a_host_name_that_cannot_be_an_id_asks_for_one() {
    let path = Path::new("host.toml");
    let error = read::config(LEAST, path, "(none)").expect_err("no id");
    assert!(error.to_string().contains("write `host_id = "), "{error}");
}

#[test]
fn a_file_is_read_from_the_disk_and_one_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("host.toml");
    let error = HostConfig::open(&path).expect_err("not there").to_string();
    assert!(error.contains("host.toml"), "{error}");
    std::fs::write(&path, format!("host_id = \"a\"\ndata_dir = \"d\"\n{LEAST}")).expect("written");
    assert_eq!(HostConfig::open(&path).expect("right").data_dir, dir.path().join("d"));
}
