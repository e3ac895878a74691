import js from "@eslint/js";
import globals from "globals";

export default [
  { ignores: ["types/", "protos/"] },
  js.configs.recommended,
  {
    languageOptions: { globals: globals.node },
    rules: {
      eqeqeq: "error",
      "max-len": ["error", { code: 120 }],
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
