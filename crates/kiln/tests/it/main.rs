#[test]
fn measure() {
    let home = kiln_testkit::Home::new();
    let start = std::time::Instant::now();
    let r = kiln_testkit::Repository::debian(home.path().join("mirror"));
    let m = r.write();
    println!("write {:?} {}", start.elapsed(), m.files().len());
    home.write("shop/kiln.toml", format!("[factory]\nname = \"shop\"\n[distribution.trixie]\nfamily = \"debian\"\nsuite = \"trixie\"\narchitecture=\"amd64\"\nmirror = \"{}\"\nkeyring = \"k.gpg\"\n[class.base]\ndistribution = \"trixie\"\npackages = [\"nginx\"]\n", m.uri()));
    home.write("shop/k.gpg", std::fs::read(m.keyring()).unwrap());
    for args in [vec!["lock"], vec!["lock"], vec!["lock", "--check"], vec!["fetch"], vec!["fetch"]] {
        let start = std::time::Instant::now();
        let o = kiln_testkit::Kiln::new(env!("CARGO_BIN_EXE_kiln"), &home).directory("shop").args(args).run();
        println!("{:?} {}", start.elapsed(), o.report());
    }
}
