// Command cdcseed is a live eCommerce database for change data capture: see README.md.
package main

import "os"

func main() {
	hideSecrets()
	os.Exit(run(os.Args, os.Stdout, os.Stderr))
}
