use serde_json::{Value, json};

use super::{Format, Template, render};

fn data() -> Value {
    json!({
        "ID": "0123456789abcdef", "Names": ["web", "front"], "Count": 3, "Ratio": 1.5, "Empty": "", "None": null,
        "Labels": {"b": "2", "a": "1"}, "State": {"Running": true, "ExitCode": 0}, "Big": 12_345_678_901_i64,
        "Mounts": [{"Source": "/a", "RW": true}, {"Source": "/b", "RW": false}], "Flat": "x=1,y=2",
    })
}

#[track_caller]
fn shows(template: &str, text: &str) {
    assert_eq!(render(template, &data()).unwrap(), text, "{template}");
}

#[track_caller]
fn fails(template: &str, part: &str) {
    let text = format!("{:#}", render(template, &data()).unwrap_err());
    assert!(text.contains(part), "{template}: {text}");
}

#[test]
fn values_print_as_go_prints_them() {
    shows("{{.ID}}", "0123456789abcdef");
    shows("{{.Names}}", "[web front]");
    shows("{{.Labels}}", "map[a:1 b:2]");
    shows("{{.State.Running}} {{.State.ExitCode}}", "true 0");
    shows("{{.Nope}} {{.None}} {{.Labels.nope}}", "<no value> <no value> <no value>");
    shows("{{.Ratio}} {{.Big}} {{1e21}} {{0.00001}} {{1.0}}", "1.5 12345678901 1e+21 1e-05 1");
    shows("{{.Mounts}}", "[map[RW:true Source:/a] map[RW:false Source:/b]]");
    shows("{{`raw \\t`}} {{\"a\\tb\\u00e9\"}} {{'a'}} {{0x10}} {{-3}}", "raw \\t a\tbé 97 16 -3");
}

#[test]
fn text_escapes_comments_and_trimming() {
    shows("a\\tb\\nc", "a\tb\nc");
    shows("x {{- .Count -}} y", "x3y");
    shows("a {{/* a }} comment */}} b", "a  b");
    shows("a {{- /* c */ -}} b", "ab");
    shows("no action", "no action");
    shows("}} {", "}} {");
}

#[test]
fn functions_of_go_and_docker() {
    shows("{{json .Labels}} {{json .Nope}} {{.ID | json}}", r#"{"a":"1","b":"2"} null "0123456789abcdef""#);
    shows("{{prettyjson .Labels}}", "{\n  \"a\": \"1\",\n  \"b\": \"2\"\n}");
    shows("{{index .Labels \"a\"}} {{index .Names 1}} {{index .Labels \"zz\"}}", "1 front <no value>");
    shows("{{(index .Mounts 1).Source}} {{(index .Mounts 0).RW}}", "/b true");
    shows("{{len .Names}} {{len .ID}}", "2 16");
    shows("{{upper \"a\"}}{{lower \"B\"}} {{title \"ab cd\"}}", "Ab Ab Cd");
    shows("{{join .Names \", \"}} {{split \"a:b\" \":\"}}", "web, front [a b]");
    shows("[{{pad \"x\" 1 2}}] {{truncate .ID 4}}", "[ x  ] 0123");
    shows("{{slice .ID 2 5}} {{slice .Names 1}}", "234 [front]");
    shows("{{print 1 2 \"a\" 3}}{{println 1 \"x\"}}", "1 2a31 x\n");
    shows(
        "{{eq .Count 3}} {{eq .Count 1 2 3}} {{ne .ID \"x\"}} {{lt 1 2}} {{le 2 2}}",
        "true true true true true",
    );
    shows("{{gt 1.5 1}} {{ge \"b\" \"a\"}} {{eq .None nil}}", "true true true");
    shows("{{and 1 0}} {{or 0 \"\" \"x\"}} {{not .Empty}} {{and .Nope .Nope.deep}}", "0 x true <no value>");
    shows("{{.Label \"a\"}}|{{.Label \"zz\"}}", "1|");
    assert_eq!(render("{{.Label \"y\"}}", &json!({"Labels": "x=1,y=2"})).unwrap(), "2");
}

#[test]
fn printf_follows_go() {
    shows(
        "{{printf \"%s %d %v %q\" .ID .Count .Names \"a\\\"b\"}}",
        "0123456789abcdef 3 [web front] \"a\\\"b\"",
    );
    shows("{{printf \"%5d|%-5d|%05d|%+d|%x\" 42 42 42 42 42}}", "   42|42   |00042|+42|2a");
    shows(
        "{{printf \"%.2f %6.1f %e %g %.3g\" 1.005 2.25 12345.678 0.5 1234.5}}",
        "1.00    2.2 1.234568e+04 0.5 1.23e+03",
    );
    shows("{{printf \"%d %s\" \"x\" 1}}", "%!d(string=x) %!s(int=1)");
    shows("{{printf \"%d\"}}{{printf \"%%\" 1}}{{printf \"%\"}}", "%!d(MISSING)%%!(EXTRA int=1)%!(NOVERB)");
    shows("{{printf \"%-6s|%.2s|%*d\" \"ab\" \"abc\" 4 7}}", "ab    |ab|   7");
    shows("{{printf \"%T %t %c\" .Labels true 65}}", "map[string]interface {} true A");
}

#[test]
fn blocks_variables_and_pipes() {
    shows("{{range .Names}}<{{.}}>{{end}}", "<web><front>");
    shows("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;");
    shows("{{range $i, $e := .Names}}{{if $i}},{{end}}{{$e}}{{end}}", "web,front");
    shows("{{range .Nope}}x{{else}}none{{end}}", "none");
    shows("{{range 3}}{{.}}{{end}}", "012");
    shows("{{range .Names}}{{if eq . \"front\"}}{{continue}}{{end}}{{.}}{{end}}", "web");
    shows("{{range .Names}}{{.}}{{break}}{{end}}", "web");
    shows("{{if .Empty}}a{{else if eq .Count 3}}b{{else}}c{{end}}", "b");
    shows("{{with .State}}{{.Running}} {{$.Count}}{{end}}{{with .Empty}}x{{else}}y{{end}}", "true 3y");
    shows("{{$x := 1}}{{range .Names}}{{$x = .}}{{end}}{{$x}}", "front");
    shows("{{with $x := .Count}}{{$x}}{{end}}", "3");
    shows("{{.Names | len | printf \"%d-%d\" 7}}", "7-2");
    shows("{{range .Mounts}}{{.Source}}:{{if .RW}}rw{{else}}ro{{end}} {{end}}", "/a:rw /b:ro ");
    shows("{{if and (eq .Count 3) (not .Empty)}}yes{{end}}", "yes");
}

#[test]
fn wrong_templates_say_where() {
    fails("{{.A", "not closed");
    fails("{{nope .A}}", "\"nope\"");
    fails("{{if .A}}x", "no {{end}}");
    fails("{{end}}", "closes nothing");
    fails("{{else}}", "belongs to nothing");
    fails("{{}}", "empty");
    fails("{{$y}}", "$y");
    fails("{{range .Names}}{{$z := 1}}{{end}}{{$z}}", "$z");
    fails("{{break}}", "outside of a range");
    fails("{{\"a}}", "not closed");
    fails("{{(.A}}", "not closed");
    fails("{{.A)}}", "unexpected");
    fails("{{template \"x\"}}", "not supported");
    fails("{{.ID.Deep}}", "Deep");
    fails("{{.Nope.Deep}}", "no value");
    fails("{{index .Names 7}}", "out of range");
    fails("{{len 3}}", "len of int");
    shows("{{len .None}} {{.None}} {{.Nope}}", "0 <no value> <no value>");
    let typed = Template::parse("{{.None}} {{$.None}} {{.Nope}} {{json .None}}").unwrap();
    let text = typed.render_with(&json!({ "None": null }), &[("None", "[]"), ("Nope", "[]")]).unwrap();
    assert_eq!(text, "[] [] <no value> null");
    fails("{{eq 1 \"a\"}}", "incompatible");
    fails("{{range 1.5}}{{end}}", "iterate");
    fails("{{.ID 3}}", "not a function");
    fails("{{pad \"x\" 99999999999 1}}", "count");
    fails(&format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000)), "too deep");
    fails(&"{{if 1}}".repeat(5000), "too deep");
}

#[test]
fn a_template_renders_many_rows() {
    let template = Template::parse("{{.A}}").unwrap();
    assert_eq!(
        template.render(&json!({"A": 1})).unwrap() + &template.render(&json!({"A": 2})).unwrap(),
        "12"
    );
}

#[test]
fn formats_of_a_list() {
    let rows = [
        json!({"ID": "a", "CreatedAt": "now", "Size": 7}),
        json!({"ID": "bcd", "CreatedAt": "x", "Size": 8}),
    ];
    let show =
        |flag| Format::parse(flag, r"{{.ID}}\t{{.CreatedAt}}").unwrap().render(&[("ID", "THE ID")], &rows);
    let table = "THE ID   CREATED AT\na        now\nbcd      x\n";
    assert_eq!(show(None).unwrap(), table);
    assert_eq!(show(Some("table")).unwrap(), table);
    assert_eq!(
        show(Some(r"table {{.Size}}\t{{upper .ID}}")).unwrap(),
        "SIZE   THE ID\n7      A\n8      BCD\n"
    );
    assert_eq!(show(Some("{{.ID}}")).unwrap(), "a\nbcd\n");
    assert_eq!(
        show(Some("json")).unwrap(),
        "{\"CreatedAt\":\"now\",\"ID\":\"a\",\"Size\":7}\n{\"CreatedAt\":\"x\",\"ID\":\"bcd\",\"Size\":8}\n"
    );
}
