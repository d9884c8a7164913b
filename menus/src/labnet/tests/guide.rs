//! The Labnet Administrators Guide's own examples. The printed texts have no run of blanks in them and no blank at a
//! line's end, not even where their templates make one, so they are compared with such runs squeezed.

use super::*;

fn squeezed(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn check(template: &str, site: &Site, kind: &str, name: &str, printed: &str) {
    let template = Template::parse("guide", template).unwrap();
    let text = template.expand(Host { kind, name }, site, Language::Lines, &Stop::default()).unwrap();
    assert_eq!(squeezed(&text), squeezed(printed));
}

/// Section 2.8: the boot menu of client hogwarts.
#[test]
fn boot_menu_of_section_2_8() {
    let template = "<Template>
DEFAULT <varVal>kernel</varVal>
APPEND root=/dev/nfs init=/etc/rc.d/<varVal>preinit_script</varVal> nfsroot=/diskless/rootfs,v3 ip=dhcp <if><varVal>bootOptions</varVal><then><varVal>bootOptions</varVal></then></if> softlevel=<varVal>run_level_name</varVal>
</Template>";
    let printed = "DEFAULT bzImage.P4-2.6.38-gentoo-r2
APPEND root=/dev/nfs init=/etc/rc.d/rc.preinit.moreminimal nfsroot=/diskless/rootfs,v3 ip=dhcp softlevel=ipsec";
    check(template, &lab(), "client", "hogwarts", printed);
    let site = lab().with("client", "hogwarts", &[("bootOptions", &["quiet"])]);
    check(template, &site, "client", "hogwarts", &printed.replace("ip=dhcp", "ip=dhcp quiet"));
}

/// Section 2.4: access.conf. The guide prints this template without the lines that are markup alone; they are put
/// back as its text says: default values where the host has no Access table, else a line for each row.
const ACCESS: &str = "<Template>
<literal># This file was generated automatically by the program:
# /usr/local/sbin/lnsysconfigd
# and should not be modified directly.
# Login access control table.
</literal>
<if> <varVal>acc_perm</varVal>
<then>
<iterateOverLists>
<iteratorList><varVal>acc_perm</varVal></iteratorList>
<iteratorList><varVal>acc_user</varVal></iteratorList>
<iteratorList><varVal>acc_location</varVal></iteratorList>
<if> <equal><item/><literal>allow</literal></equal> <then>
<literal>+: </literal><item>1</item><literal>: </literal><item>2</item>
</then>
<elseif> <equal><item/><literal>deny</literal></equal> <then>
<literal>-: </literal><item>1</item><literal>: </literal><item>2</item>
</then>
</elseif>
</if>
<literal>
</literal>
</iterateOverLists>
</then>
<else><literal>-: ALL EXCEPT root wheel: ALL
+: root wheel: LOCAL .</literal><varVal><type>server</type><entity><self/></entity>domain</varVal>
</else>
</if>
</Template>";

#[test]
fn access_conf_of_section_2_4() {
    let header = "# This file was generated automatically by the program:
# /usr/local/sbin/lnsysconfigd
# and should not be modified directly.
# Login access control table.
";
    let site = lab().with(
        "server",
        "odie",
        &[
            ("acc_perm", &["allow", "allow", "allow"]),
            ("acc_user", &["root wheel", "pbonnah", "bkupclient"]),
            ("acc_location", &["LOCAL", "", ""]),
        ],
    );
    check(
        ACCESS,
        &site,
        "server",
        "odie",
        &format!("{header}+: root wheel: LOCAL\n+: pbonnah:\n+: bkupclient:"),
    );
    let site = lab().with(
        "server",
        "odie",
        &[("acc_perm", &["deny", "neither"]), ("acc_user", &["ALL", "x"]), ("acc_location", &["ALL", "y"])],
    );
    check(ACCESS, &site, "server", "odie", &format!("{header}-: ALL: ALL"));
    check(
        ACCESS,
        &lab(),
        "server",
        "odie",
        &format!("{header}-: ALL EXCEPT root wheel: ALL\n+: root wheel: LOCAL .cs"),
    );
}

/// Section 2.6, item 11: "the entity names of all the application servers within the computer science domain".
#[test]
fn application_servers_of_a_domain_of_section_2_6() {
    let template = "<Template><AND_expr><type>server</type>
<var>functions</var><val>appserver</val>
<var>domain</var><val>cs</val></AND_expr></Template>";
    check(template, &lab(), "client", "hogwarts", "megatron");
}

/// Section 3.3.5: the second boot loader's menu for client rook, and the first one's settings.
#[test]
fn menus_of_section_3_3_5() {
    let site = Site::default()
        .with(
            "client",
            "rook",
            &[
                ("kernel", &["bzImage.noarch-3.7.2-gentoo"]),
                ("preinit_script", &["rc.preinit.moreminimal"]),
                ("run_level_name", &["ipsec-win"]),
                ("windowsImage", &["cs_lab"]),
                ("server", &["megatron"]),
                ("iscsi_passwd", &["rookiscsipas"]),
            ],
        )
        .with("lnappconf", "iscsi", &[("iqn_prefix", &["iqn.1989-06-ca.mun.cs"])]);
    let pxelinux = "<Template>UI vesamenu.c32
MENU TITLE Operating System Choices
MENU BACKGROUND images/image.png
MENU NOTABMSG Use arrow keys to select choice and press ENTER key
TIMEOUT 100
<if><varVal>windowsImage</varVal><then><literal>LABEL window7
MENU LABEL Microsoft Windows 7
LOCALBOOT 0
</literal></then></if>
<literal>LABEL gentoo
MENU LABEL Gentoo Linux
KERNEL </literal><varVal>kernel</varVal>
APPEND root=/dev/nfs init=/etc/rc.d/<varVal>preinit_script</varVal> nfsroot=/diskless/rootfs,v3
ip=dhcp softlevel=<varVal>run_level_name</varVal></Template>";
    let printed = "UI vesamenu.c32
MENU TITLE Operating System Choices
MENU BACKGROUND images/image.png
MENU NOTABMSG Use arrow keys to select choice and press ENTER key
TIMEOUT 100
LABEL window7
MENU LABEL Microsoft Windows 7
LOCALBOOT 0
LABEL gentoo
MENU LABEL Gentoo Linux
KERNEL bzImage.noarch-3.7.2-gentoo
APPEND root=/dev/nfs init=/etc/rc.d/rc.preinit.moreminimal nfsroot=/diskless/rootfs,v3
ip=dhcp softlevel=ipsec-win";
    check(pxelinux, &site, "client", "rook", printed);

    let ipxe = "<Template><setvalue>iqn<cat><confVal><entity>iscsi</entity>iqn_prefix</confVal>.<self/>:system-disk</cat></setvalue>
<line>set initiator-iqn <getvalue>iqn</getvalue></line>
<line>set username <getvalue>iqn</getvalue></line>
<line>set password <varVal>iscsi_passwd</varVal></line>
<line>set keep-san 1</line></Template>";
    let printed = "set initiator-iqn iqn.1989-06-ca.mun.cs.rook:system-disk
set username iqn.1989-06-ca.mun.cs.rook:system-disk
set password rookiscsipas
set keep-san 1";
    check(ipxe, &site, "client", "rook", printed);
}
