package clients

import (
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/mcpgw/mcpgw/internal/config"
)

// Variable is an environment variable that entries need.
type Variable struct {
	Name  string `json:"name"`
	Why   string `json:"why"` // where it comes from, in words
	Value string `json:"-"`   // the secret that it stands for; "" if it is not known
}

var (
	secretName  = regexp.MustCompile(`(?i)(token|secret|passw|api[-_]?key|apikey|credential|private[-_]?key|access[-_]?key|authorization|cookie|bearer|(^|[-_])(pat|auth|key|pwd|pass)$)`)
	secretValue = regexp.MustCompile(`^(sk-|sk_|pk_|rk_|gh[pousr]_|github_pat_|glpat-|xox[abposr]-|AKIA|ASIA|AIza|eyJ|hf_|npm_|pypi-|dop_v1_|shpat_|ya29\.|PVEAPIToken=)[A-Za-z0-9_=!@.\-]{8,}`)
	schemeForm  = regexp.MustCompile(`^(?i)(bearer|basic|token|apikey|PVEAPIToken=[^=]*=|Bot)\s*`)
	countForm   = regexp.MustCompile(`^[0-9]{1,7}[a-zA-Z]{0,3}$`)
	secretFlag  = regexp.MustCompile(`^(--?[A-Za-z0-9_-]+)=(.+)$`)
)

// looksSecret says whether the value of something called name had better not stand in a file.
func looksSecret(name, value string) bool {
	if strings.TrimSpace(value) == "" || strings.Contains(value, "${") {
		return false
	}
	count := countForm.MatchString(value) && !strings.Contains(strings.ToLower(name), "pass") // MAX_TOKENS: 4096
	return secretValue.MatchString(value) || secretName.MatchString(name) && !harmless(value) && !count || random(value)
}

// harmless recognises what is no secret whatever its name: switches, numbers, paths and addresses.
func harmless(s string) bool {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "none", "null", "0", "1":
		return true
	}
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "~/") || strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// random recognises long texts of mixed letters and digits that are no words, paths or addresses.
func random(s string) bool {
	if len(s) < 32 || strings.ContainsAny(s, " /:\\,;@") {
		return false
	}
	var digits, letters, other int
	for _, c := range s {
		switch {
		case unicode.IsDigit(c):
			digits++
		case unicode.IsLetter(c):
			letters++
		default:
			other++
		}
	}
	return digits >= 6 && letters >= 6 && other <= 4
}

// hide returns what to write in place of a value that is a secret. name is what the variable should be called. Values are as the program gets
// them, the result is in the language of gateway.yaml.
func (r *reader) hide(name, value, why string) string {
	prefix := schemeForm.FindString(value)
	if prefix == value {
		prefix = ""
	}
	return config.Escape(prefix, false) + "${" + r.variableFor(name, value[len(prefix):], why) + "}"
}

// variableFor finds a name that no other secret has.
func (r *reader) variableFor(name, value, why string) string {
	name = variableName(name)
	for _, try := range []string{name, variableName(r.server) + "_" + name} {
		if was, ok := r.taken[try]; !ok || was == value {
			r.need(Variable{Name: try, Value: value, Why: why})
			return try
		}
	}
	for i := '2'; ; i++ {
		try := variableName(r.server) + "_" + name + "_" + string(i)
		if was, ok := r.taken[try]; !ok || was == value {
			r.need(Variable{Name: try, Value: value, Why: why})
			return try
		}
	}
}

// need remembers a variable for the report.
func (r *reader) need(v Variable) {
	if _, ok := r.taken[v.Name]; !ok {
		r.taken[v.Name] = v.Value
		r.found.Variables = append(r.found.Variables, v)
	}
}

// secretText translates a text that is a value of something called name, and hides it if it is a secret.
func (r *reader) secretText(kind, name, s string) (string, error) {
	out, err := r.text(s)
	if err != nil || out != config.Escape(s, false) || !looksSecret(name, s) {
		return out, err
	}
	variable := name
	if kind == "header" {
		if variable = r.server + "_" + name; strings.EqualFold(name, "authorization") {
			variable = r.server + "_token"
		}
	}
	return r.hide(variable, s, kind+" "+name+" of "+r.server), nil
}

// address translates a URL. A password or a key in it becomes a variable.
func (r *reader) address(s string) (string, error) {
	out, err := r.text(s)
	if err != nil || out != config.Escape(s, false) {
		return out, err
	}
	u, err := url.Parse(s)
	if err != nil {
		return out, nil //nolint:nilerr // the configuration will say what is wrong with it
	}
	for key, values := range u.Query() {
		for _, v := range values {
			if looksSecret(key, v) {
				out = strings.Replace(out, key+"="+config.Escape(url.QueryEscape(v), false), key+"=${"+r.variableFor(r.server+"_"+key, url.QueryEscape(v), "the URL of "+r.server)+"}", 1)
			}
		}
	}
	return out, nil
}

// arguments translates the arguments of a command. The value of an option such as --api-key becomes a variable.
func (r *reader) arguments(args []string) ([]string, error) {
	out := make([]string, 0, len(args))
	option := ""
	for _, a := range args {
		flag, value := "", a
		if m := secretFlag.FindStringSubmatch(a); m != nil {
			flag, value = m[1], m[2]
			option = flag
		}
		t, err := r.text(value)
		if err != nil {
			return nil, err
		}
		switch {
		case t != config.Escape(value, false) || strings.HasPrefix(value, "-"):
		case strings.HasPrefix(option, "-") && looksSecret(strings.TrimLeft(option, "-"), value) || secretValue.MatchString(value):
			name := strings.TrimLeft(option, "-")
			if name == "" {
				name = "token"
			}
			t = r.hide(r.server+"_"+name, value, "an argument of "+r.server)
		case passwordIn(value):
			t = "${" + r.variableFor(r.server+"_url", value, "an argument of "+r.server+" with a password") + "}"
		}
		if flag != "" {
			t = config.Escape(flag, false) + "=" + t
		}
		out = append(out, t)
		option = ""
		if strings.HasPrefix(a, "-") && flag == "" {
			option = a
		}
	}
	return out, nil
}

// passwordIn says whether s is a URL such as postgres://user:password@host.
func passwordIn(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.User == nil || u.Host == "" {
		return false
	}
	_, ok := u.User.Password()
	return ok
}

// Value translates the value of a header or of an environment variable of a server, as a user types it. A secret becomes a variable.
func (r *Reader) Value(server, kind, name, value string) (string, error) {
	r.r.server = server
	return r.r.secretText(kind, name, value)
}

// Secret is Value for what is a secret whatever it looks like.
func (r *Reader) Secret(server, name, value, why string) string {
	r.r.server = server
	if text := config.Escape(value, true); text != config.Escape(value, false) {
		return text
	}
	return r.r.hide(name, value, why)
}

// Address translates a URL.
func (r *Reader) Address(server, s string) (string, error) {
	r.r.server = server
	return r.r.address(s)
}

// Arguments translates the arguments of a command.
func (r *Reader) Arguments(server string, args []string) ([]string, error) {
	r.r.server = server
	return r.r.arguments(args)
}
