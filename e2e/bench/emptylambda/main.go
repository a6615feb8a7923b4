// Command emptylambda is a Lambda function that does nothing: what every
// function in Go costs.
package main

import "github.com/aws/aws-lambda-go/lambda"

func main() { lambda.Start(func() {}) }
