// validatorUrl: by default Swagger UI sends the address of the document to an online validator.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
