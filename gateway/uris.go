package gateway

import (
	"strings"
)

// uriScheme begins the URI of a resource that could not keep its own: "mcpgw://<downstream>/<its own URI>". The own URI follows as it
// is, so that the expressions of a URI template survive.
const uriScheme = "mcpgw://"

// qualifiedURI names a downstream's resource unmistakably.
func qualifiedURI(downstream, uri string) string { return uriScheme + downstream + "/" + uri }

// splitURI takes a qualified URI apart; ok is false if it is none.
func splitURI(uri string) (downstream, own string, ok bool) {
	rest, ok := strings.CutPrefix(uri, uriScheme)
	if !ok {
		return "", "", false
	}
	downstream, own, ok = strings.Cut(rest, "/")
	return downstream, own, ok && downstream != "" && own != ""
}
